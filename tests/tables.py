"""What documents repeat of the code, made from it.

`python3 dev.py python -m tests.tables` writes it anew; a test fails until then.
"""

from __future__ import annotations

import json
import re
import typing as t
from pathlib import Path

from tap_mega.settings import SETTINGS

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    Json: t.TypeAlias = dict[str, t.Any]

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOTENV = ROOT / ".env.example"
BLOCK = re.compile(r"(?<=<!-- settings -->\n).*?(?=<!-- /settings -->)", re.DOTALL)

BOUNDS = {"exclusiveMinimum": "> {}", "minimum": ">= {}", "maximum": "<= {}"}
FORMATS = {"uuid": "UUID", "date-time": "date or date-time", "uri": "URL"}
FAKE = {
    "auth_token": f"mega_{64 * '0'}",
    "customer_id": "00000000-0000-4000-8000-000000000000",
    "start_date": "2026-01-01",
    "filters": '{"status": "won"}',
    "user_agent": "acme-etl (data@acme.example)",
}
"""Values for those that have no default."""


def kind(setting: Json) -> str:
    """Return what a setting must be, in a few words."""
    types = setting["type"]
    word = types if isinstance(types, str) else types[0]
    word = FORMATS.get(setting.get("format", ""), word)
    bounds = [
        text.format(setting[key]) for key, text in BOUNDS.items() if key in setting
    ]
    secret = ["secret"] if setting.get("secret") else []
    return ", ".join([word, *bounds, *secret])


def rows(schema: Json, prefix: str = "") -> Iterator[str]:
    """Yield a row for each setting, and for each part of one."""
    for name, setting in schema["properties"].items():
        default = json.dumps(setting["default"]) if "default" in setting else ""
        default = "required" if name in schema.get("required", ()) else default
        cells = (f"`{prefix}{name}`", kind(setting), default, setting["description"])
        yield f"| {' | '.join(cells)} |"
        if "properties" in setting:
            yield from rows(setting, f"{name}.")


def readme() -> str:
    """Return the README with the table of the settings in its place."""
    head = "| setting | kind | default | what it does |\n|:--|:--|:--|:--|\n"
    table = head + "".join(f"{row}\n" for row in rows(SETTINGS))
    return BLOCK.sub(lambda _: f"\n{table}\n", README.read_text(encoding="utf-8"))


def dotenv() -> str:
    """Return `.env.example`: the required settings, the others as comments."""
    lines = [
        "# Copy this to .env, which git ignores. Meltano reads it from the project's",
        "# folder; `tap-mega --config=ENV` reads the variables themselves.",
        "",
    ]
    for name, setting in SETTINGS["properties"].items():
        default = setting.get("default", FAKE.get(name))
        value = default if isinstance(default, str) else json.dumps(default)
        off = "" if name in SETTINGS["required"] else "# "
        lines += [f"# {setting['title']}: {kind(setting)}"]
        lines += [f"{off}TAP_MEGA_{name.upper()}={value}", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    README.write_text(readme(), encoding="utf-8")
    DOTENV.write_text(dotenv(), encoding="utf-8")
