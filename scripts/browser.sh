# Sourced by scripts/test: has Debian's Chromium installed for the tests of the page where there is no browser yet. It
# never fails; one line says why those tests are skipped.
find_browser() { command -v chromium || command -v chromium-browser || command -v google-chrome; }

install_browser() {
  local apt="timeout 300 apt-get -qq -o DPkg::Lock::Timeout=60"
  echo "Installing Chromium for the tests of the page (once) ..." >&2
  { $apt update && DEBIAN_FRONTEND=noninteractive $apt install -y --no-install-recommends chromium; } >/dev/null 2>&1
}

if ! find_browser >/dev/null; then
  if ! command -v apt-get >/dev/null; then
    why="there is no apt-get to install it with"
  elif [ "$(id -u)" != 0 ]; then
    why="only root can install it; sudo apt-get install chromium"
  else
    why="apt-get could not install it"
    install_browser || true
  fi
  find_browser >/dev/null || echo "Tests of the page in a browser are skipped: there is no Chromium, and $why." >&2
fi
