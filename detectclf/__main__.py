"""``python -m detectclf`` and ``torchrun ... -m detectclf``."""

from detectclf.cli import main

if __name__ == "__main__":
    main()
