"""Generate the parts of the documents that repeat the code.

`python3 dev.py python -m tests.tables` writes them. A test fails while they differ.
"""

from __future__ import annotations

import json
import math
import re
import textwrap
import tomllib
import typing as t
from pathlib import Path

import yaml

from tap_mega.config.schema import CREDENTIALS, SETTINGS, properties_of
from tap_mega.openapi import DOCUMENT
from tap_mega.records.conform import COLUMN
from tap_mega.tap import TapMega
from testing.sections import replace_section

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Json: t.TypeAlias = dict[str, t.Any]

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOTENV = ROOT / ".env.example"
MELTANO = ROOT / "meltano.yml"
SETTINGS_PAGE = ROOT / "docs" / "settings.md"
HUB = ROOT / "docs" / "meltanohub.yml"
DBT = ROOT / "dbt"
DBT_COLUMNS = DBT / "models" / "columns.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VENDOR = DOCUMENT.spec["components"]["schemas"]

UNLESS = ", unless `customers` is set"
BOUNDS = {"exclusiveMinimum": "> {}", "minimum": ">= {}", "maximum": "<= {}"}
FORMATS = {"uuid": "UUID", "date-time": "date or date-time", "uri": "URL"}
EXAMPLES = {
    "auth_token": f"mega_{64 * '0'}",
    "customer_id": "00000000-0000-4000-8000-000000000000",
    "customers": '[{"customer_id": "...", "auth_token": "mega_..."}]',
    "start_date": "2026-01-01",
    "end_date": "2027-01-01",
    "max_run_seconds": 900,
    "custom_field_types": '{"budget": "number"}',
    "exclude_custom_fields": '["internal_notes"]',
    "filters": '{"status": "won"}',
    "user_agent": "acme-etl (data@acme.example)",
}
"""Example values for settings that have no default."""
DOTENV_HEAD = """\
# Copy this to .env, which git ignores, and fill in the first seven values.
# Meltano reads .env from the project's folder.
"""
DATABASE = """\
# The PostgreSQL database to load into. The user needs the right to create a schema.
TARGET_POSTGRES_HOST=localhost
TARGET_POSTGRES_PORT=5432
TARGET_POSTGRES_DATABASE=warehouse
TARGET_POSTGRES_USER=loader
TARGET_POSTGRES_PASSWORD=

# The settings below are optional. Each line shows the default, or an example."""

MEANINGS = {
    "id": "The ID of the lead: the primary key.",
    "customer_id": "The customer whose lead it is.",
    "contact_name": "The name of the person.",
    "contact_phone": "The phone number, in any notation.",
    "contact_email": "The e-mail address.",
    "source_platform": "The platform that the lead came from.",
    "source_type": "The kind of source.",
    "status": "Such as `active`, `won`, `lost`, `nurture` or `archived`.",
    "score": "The score of the lead.",
    "qualified": "Whether the lead is qualified.",
    "current_stage": "The stage of the pipeline that the lead is in.",
    "owner": "The colleague who is responsible for the lead.",
    "last_interaction_at": "When the last interaction took place.",
    "interaction_count": "How many interactions there were.",
    "created_at": "When the lead was created.",
    "updated_at": "When the lead last changed: the replication key.",
    "custom_fields": "The custom fields of the lead, by their slugs.",
    "rescued_data": "Fields and values that MEGA does not document.",
}
"""The meanings of the columns: the vendor's document describes only a few."""
SAMPLE: Json = {
    "id": "6f1c0b5e-…",
    "customer_id": "0b7e52d1-…",
    "contact_name": "Ada Example",
    "contact_phone": "+1 555 0100",
    "contact_email": "ada@example.com",
    "source_platform": "google_ads",
    "source_type": "form",
    "status": "active",
    "score": 72,
    "qualified": True,
    "current_stage": {"id": "…", "slug": "new", "name": "New", "color": "#38f"},
    "owner": {"id": "…", "name": "Sam Example", "role_name": "Agent"},
    "last_interaction_at": "2026-07-01 18:20:00",
    "interaction_count": 3,
    "created_at": "2026-06-28 09:12:04.5",
    "updated_at": "2026-07-01 18:20:00",
    "custom_fields": {"budget": 500000, "lead_line": "buyer"},
    "rescued_data": None,
}
"""A row of the table, as PostgreSQL shows it."""
RELEASE = re.compile(r"(tap[-_]mega(?:==|-)|checkout v|\| version \| )\d+\.\d+\.\d+")
"""Where the README names the version."""

PART_MEANINGS = {
    "stage_id": "The ID of the stage.",
    "stage_slug": "The slug of the stage.",
    "stage_name": "The name of the stage.",
    "owner_id": "The ID of the owner.",
    "owner_name": "The name of the owner.",
}
"""The meanings of the columns that the models make from parts of a lead."""

DBT_HEAD = "<!-- Made from the code: python3 dev.py python -m tests.tables -->\n"
PLUGIN = re.compile(r"(?<=    executable: tap-mega\n).*?(?=\n\n)", re.DOTALL)
# Not `decimal`: Meltano 4.4 cannot write the config if a variable sets a decimal.
KINDS = {"date-time": "date_iso8601", "number": "integer"}
CLONE = "-e ../tap-mega"
REQUIRES_MELTANO = ">=4"
"""Tried with 4.0.0 and 4.4.1."""
UNKNOWN_CAPABILITIES = {"start-date"}
"""The SDK declares them from 0.55 on. MeltanoHub and Meltano refuse them."""
HUB_HEAD = """\
# The definition of the plugin, for a Meltano project of your own. README.md has the
# command. `pip_url` is the path from your project to this repository.
# Made from the code: python3 dev.py python -m tests.tables
"""


def kind(setting: Json) -> str:
    """Return the type of a setting and its bounds, in a few words."""
    types = setting["type"]
    word = types if isinstance(types, str) else types[0]
    word = FORMATS.get(setting.get("format", ""), word)
    bounds = [
        text.format(setting[key]) for key, text in BOUNDS.items() if key in setting
    ]
    secret = ["secret"] if setting.get("secret") else []
    return ", ".join([word, *bounds, *secret])


def rows(schema: Json, prefix: str = "") -> Iterator[str]:
    """Yield a row for each setting, and for each property of an object."""
    for name, setting in schema["properties"].items():
        default = json.dumps(setting["default"]) if "default" in setting else ""
        default = f"required{UNLESS}" if name in CREDENTIALS else default
        cells = (f"`{prefix}{name}`", kind(setting), default, setting["description"])
        yield f"| {' | '.join(cells)} |"
        if "properties" in setting:
            yield from rows(setting, f"{name}.")


def columns() -> Iterator[tuple[str, str, str]]:
    """Yield the name, type and meaning of each column."""
    lead = VENDOR["Lead"]
    for name, it in lead["properties"].items():
        schema = VENDOR[it["$ref"].rpartition("/")[2]] if "$ref" in it else it
        types = schema["type"]
        names = [types] if isinstance(types, str) else types
        word = "timestamp" if schema.get("format") == "date-time" else names[0]
        parts = ", ".join(f"`{part}`" for part in schema.get("properties", ()))
        word = f"{word.replace('string', 'text')}{parts and f' of {parts}'}"
        nullable = name not in lead["required"] or "null" in names
        yield f"`{name}`", word + ", or null" * nullable, MEANINGS[name]
    yield f"`{COLUMN}`", "object, or null", MEANINGS[COLUMN]


def dbt_columns() -> str:
    """Return the descriptions of columns, which the models of dbt use by name."""
    meanings = {**MEANINGS, **PART_MEANINGS}
    return DBT_HEAD + "".join(
        f"\n{{% docs {name} %}}\n{text}\n{{% enddocs %}}\n"
        for name, text in meanings.items()
    )


def settings_table(lines: Iterable[str]) -> str:
    """Return a table of settings."""
    head = "| setting | kind | default | what it does |\n|:--|:--|:--|:--|\n"
    return head + "".join(f"{line}\n" for line in lines)


def readme() -> str:
    """Return the README with the current version, columns and sample row."""
    page = README.read_text(encoding="utf-8")
    head = "| column | type | meaning | example |\n|:--|:--|:--|:--|\n"
    table = head + "".join(
        f"| {' | '.join([*row, example(row[0].strip('`'))])} |\n" for row in columns()
    )
    page = RELEASE.sub(lambda it: f"{it[1]}{PROJECT['version']}", page)
    return replace_section(page, "columns", table)


def example(column: str) -> str:
    """Return the value of a column in the sample row."""
    value = SAMPLE[column]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"`{text}`"


def settings_page() -> str:
    """Return the page of settings with the current table."""
    page = SETTINGS_PAGE.read_text(encoding="utf-8")
    return replace_section(page, "settings", settings_table(rows(SETTINGS)))


def dotenv() -> str:
    """Return `.env.example`: required settings are active, the others are comments."""
    settings = SETTINGS["properties"]
    required, optional = [], []
    for name, setting in settings.items():
        default = setting.get("default", EXAMPLES.get(name))
        value = default if isinstance(default, str) else json.dumps(default)
        title = f"# {setting['title']}: {kind(setting)}"
        line = f"TAP_MEGA_{name.upper()}={value}"
        if name in CREDENTIALS:
            required += [title, line, ""]
        else:
            optional += ["", title, f"# {line}"]
    return "\n".join([DOTENV_HEAD, *required, DATABASE, *optional, ""])


def pythons() -> list[str]:
    """Return the Python versions that the package supports."""
    texts = (it.rpartition(" :: ")[2] for it in PROJECT["classifiers"])
    return [text for text in texts if re.fullmatch(r"3\.\d+", text)]


def plugin(*, defaults: bool = False) -> Json:
    """Return the tap's settings and capabilities in Meltano's format.

    Args:
        defaults: Whether to show the defaults. Meltano then passes them to the tap,
            also to a later version that has others.
    """
    TapMega.append_builtin_config(TapMega.config_jsonschema)
    settings = TapMega.config_jsonschema["properties"]
    capabilities = {it.value for it in TapMega.capabilities}
    return {
        "capabilities": sorted(capabilities - UNKNOWN_CAPABILITIES),
        "settings_group_validation": [sorted(CREDENTIALS), ["customers"]],
        "settings": [
            meltano_setting(*item, default=defaults)
            for name, setting in settings.items()
            for item in ((name, setting), *parts_of(name))
        ],
    }


def parts_of(name: str) -> Iterator[tuple[str, Json]]:
    """Yield the properties of a setting, each with the name that Meltano gives it."""
    for part, setting in properties_of(name).items():
        yield f"{name}.{part}", setting


def meltano_setting(name: str, setting: Json, *, default: bool) -> Json:
    """Return a setting in Meltano's format, with its default if there is one."""
    types = setting["type"]
    word = types if isinstance(types, str) else types[0]
    word = KINDS.get(setting.get("format", word), word)
    options = [
        {"label": value.replace("_", " ").capitalize(), "value": value}
        for value in setting.get("enum", ())
    ]
    shown = default and "default" in setting
    return {
        "name": name,
        "kind": "options" if options else word,
        "label": setting["title"],
        "description": setting["description"].replace("…", "..."),
        **({"options": options} if options else {}),
        **({"sensitive": True} if setting.get("secret") else {}),
        **({"value": setting["default"]} if shown else {}),
    }


def dump(content: Json, *, sort_keys: bool = False) -> str:
    """Return YAML in the format of Meltano, with one line per text."""
    return yaml.safe_dump(
        content, sort_keys=sort_keys, allow_unicode=True, width=math.inf
    )


def meltano() -> str:
    """Return `meltano.yml` with the tap's current capabilities and settings."""
    block = textwrap.indent(dump(plugin()), "    ")
    return PLUGIN.sub(lambda _: block.rstrip(), MELTANO.read_text(encoding="utf-8"))


def hub() -> str:
    """Return the tap's definition in the format of MeltanoHub, with sorted keys.

    It installs the clone beside the project that uses it, and names the Meltano that it
    needs. `release.py` replaces the first and removes the second.
    """
    definition = {
        "name": PROJECT["name"],
        "namespace": "tap_mega",
        "label": "MEGA",
        "description": PROJECT["description"],
        "pip_url": CLONE,
        "executable": "tap-mega",
        "domain_url": SETTINGS["properties"]["api_url"]["default"],
        "keywords": ["api", "meltano_sdk"],
        "maintenance_status": "beta",
        "quality": "unknown",  # The hub rates it.
        "requires_meltano": REQUIRES_MELTANO,
        "supported_python_versions": pythons(),
        **plugin(defaults=True),
    }
    return HUB_HEAD + dump(definition, sort_keys=True)


GENERATED: dict[Path, Callable[[], str]] = {
    README: readme,
    SETTINGS_PAGE: settings_page,
    DBT_COLUMNS: dbt_columns,
    MELTANO: meltano,
    HUB: hub,
    DOTENV: dotenv,
}

if __name__ == "__main__":
    for path, generate in GENERATED.items():
        path.write_text(generate(), encoding="utf-8")
