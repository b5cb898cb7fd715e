# Sourced by scripts/demo and scripts/test: makes the project's own .venv once and installs into it.
# Usage: . scripts/setup.sh EXTRAS   (EXTRAS such as "" or "[dev]"); leaves the interpreter's path in $VENV_PYTHON.
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${DETECTCLF_VENV:-$ROOT/.venv}"
VENV_PYTHON="$VENV/bin/python"
[ -x "$VENV_PYTHON" ] || VENV_PYTHON="$VENV/Scripts/python.exe"

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3 python python3.12 python3.11 python3.13 python3.10; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
    "$candidate" -c 'import sys; sys.exit(not (sys.version_info >= (3, 10)))' 2>/dev/null && { echo "$candidate"; return; }
  done
  echo "detectclf: no Python 3.10 or newer found; install one or set PYTHON=/path/to/python3" >&2
  return 2
}

if [ ! -x "$VENV_PYTHON" ]; then
  python="$(find_python)"
  "$python" -m venv "$VENV"
  VENV_PYTHON="$VENV/bin/python"
  [ -x "$VENV_PYTHON" ] || VENV_PYTHON="$VENV/Scripts/python.exe"
fi

# Installed already, for this pyproject.toml and these extras? Then nothing is fetched again.
stamp="$VENV/.detectclf-$(printf '%s' "$1" | tr -cd 'a-z')"
wanted="$(cksum < "$ROOT/pyproject.toml") $ROOT"
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
  echo "Installing detectclf$1 into $VENV (once; torch is large) ..." >&2
  # `if !`, not `|| exit`: a pip that is missing (venv without ensurepip) gets a line of its own.
  if ! "$VENV_PYTHON" -m pip --version >/dev/null 2>&1; then "$VENV_PYTHON" -m ensurepip --upgrade >/dev/null; fi
  "$VENV_PYTHON" -m pip install --quiet --disable-pip-version-check -e "$ROOT$1" >&2
  # Without what it needs: PyAV's wheel holds libraries under the GPL, and only supervision's videos use it.
  case "$1" in *dev*) "$VENV_PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps 'supervision<1' pydeprecate >&2 ;; esac
  printf '%s\n' "$wanted" > "$stamp"
fi
