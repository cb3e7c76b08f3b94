#!/bin/sh
# Makes /opt/daskflow on a fresh Amazon Linux 2023 machine, of which a machine image for scheduler and workers is made then: the Python of
# your environment, daskflow, and what your flows import. Run it there as root.
#
#   sudo sh machine-image.sh 3.11 requirements.txt daskflow-*.whl
#
# The version of Python is yours, as are the packages in requirements.txt: a worker whose Python, daskflow, dask or distributed is another
# is refused when a run starts. `pip freeze --exclude-editable > requirements.txt` pins all there is.
set -eu

if [ $# -lt 3 ]; then
    echo "usage: $0 PYTHON_VERSION REQUIREMENTS_FILE DASKFLOW_WHEEL" >&2
    exit 2
fi
version=$1 requirements=$2 wheel=$3

# git and a compiler, where requirements need them: dnf install --assumeyes git gcc gcc-c++ "python$version-devel"
dnf install --assumeyes "python$version" "python$version-pip"
"python$version" -m venv /opt/daskflow
/opt/daskflow/bin/python -m pip install --no-cache-dir --requirement "$requirements"
/opt/daskflow/bin/python -m pip install --no-cache-dir "$wheel"
/opt/daskflow/bin/python -c "import daskflow, distributed"

cloud-init clean # a machine that boots from the image does what its own user data says
echo "/opt/daskflow is complete."
