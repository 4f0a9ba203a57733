"""What the command line remembers between two calls: which uploads broke off, and where they go on."""

import json
from contextlib import suppress
from pathlib import Path

MOST = 100  # uploads; the oldest are forgotten first


class Memory:
    """A small file; one that cannot be read or written costs nothing but beginning anew."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, name: str) -> str | None:
        return self._load().get(name)

    def set(self, name: str, value: str) -> None:
        known = self._load()
        known.pop(name, None)
        known[name] = value
        self._save(dict(list(known.items())[-MOST:]))

    def forget(self, name: str) -> None:
        known = self._load()
        if known.pop(name, None) is not None:
            self._save(known)

    def _load(self) -> dict[str, str]:
        with suppress(OSError, ValueError):
            found = json.loads(self._path.read_text("utf-8"))
            if isinstance(found, dict):
                return {str(name): str(value) for name, value in found.items()}
        return {}

    def _save(self, known: dict[str, str]) -> None:
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft = self._path.with_suffix(".part")
            draft.write_text(json.dumps(known), "utf-8")
            draft.replace(self._path)
