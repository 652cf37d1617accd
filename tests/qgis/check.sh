#!/usr/bin/env bash
# Open the inventory of a run over its newest fused scene in QGIS, and save the map as <run folder>/qgis.png.
# Installs nothing: says what it needs.
set -euo pipefail
run=${1:?usage: tests/qgis/check.sh RUN_FOLDER}
here=$(dirname "$0")

python=""
for candidate in "${QGIS_PYTHON:-}" /usr/bin/python3 python3; do
  if [ -n "$candidate" ] && "$candidate" -c "import qgis.core" 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "qgis-check needs QGIS with its Python bindings; on Debian or Ubuntu: apt-get install qgis python3-qgis" >&2
  echo "(or set QGIS_PYTHON to the Python that can import qgis.core)" >&2
  exit 3
fi
if [ ! -f "$run/inventory.gpkg" ]; then
  echo "qgis-check needs $run/inventory.gpkg; make it with: make inventory" >&2
  exit 2
fi
image=$(find "$run/scenes" -mindepth 2 -maxdepth 2 -name fused.tif | sort | tail -n 1)
if [ -z "$image" ]; then
  echo "qgis-check needs a fused.tif below $run/scenes; make it with: make inventory" >&2
  exit 2
fi
QT_QPA_PLATFORM=offscreen "$python" "$here/render.py" "$run/inventory.gpkg" "$image" "$run/qgis.png"
echo "$run/qgis.png"
