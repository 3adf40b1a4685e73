"""Made-up leads: people, their custom fields, stages and owners."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
import typing as t
import uuid

import faker

from sandbox.document import CUSTOMER_ID, Lead, check_lead
from sandbox.timestamps import format_timestamp

LOCALES = (
    *("en_US", "en_US", "en_GB", "es_MX", "de_DE", "fr_FR", "pt_BR", "pl_PL"),
    *("el_GR", "ru_RU", "ja_JP", "zh_CN", "ko_KR", "hi_IN"),
)
HARD_NAMES = (
    "Zoë O’Brien-Łukasiewicz",  # noqa: RUF001 - a typographic apostrophe
    'Anne-Marie "Annie" D\'Angelo',
    "Ngô Bảo Châu 🏡",
    "李",
    "Müller & Söhne; Bau, GmbH",
    "محمد الأمين",
)
STATUSES = ("active", "won", "lost", "nurture", "archived")
PLATFORMS = (
    *("google_ads", "meta_ads", "google_organic", "direct", "referral", "hubspot"),
    *("zoho", "ghl", "shopify", "zenmaid", "lead_docket", "salesforce"),
)
SOURCE_TYPES = ("form", "phone_call", "email", "chat", "sms", "manual", "import")
STAGES = (
    ("new", "New", "#64748b"),
    ("contacted", "Contacted", "#0ea5e9"),
    ("qualified", "Qualified", "#6366f1"),
    ("viewing-booked", "Viewing booked", "#8b5cf6"),
    ("viewed", "Viewed", None),
    ("offer-made", "Offer made", "#f59e0b"),
    ("negotiating", "Négociation", "#f97316"),
    ("under-contract", "Under contract", "#84cc16"),
    ("financing", "Financing", None),
    ("closed-won", "Closed won", "#22c55e"),
    ("closed-lost", "Closed lost", "#ef4444"),
    ("long-term", "Long-term nurture 🌱", "#14b8a6"),
)
STATUS_BY_STAGE = {"closed-won": "won", "closed-lost": "lost", "long-term": "nurture"}
"""The status of a lead after it moved to a stage. In the other stages it is active."""
OPEN_STAGES = 9
"""So many stages precede the one of deals that are won."""
NEXT_STAGE_SHARE = 0.6
"""The share of changes that move a lead from an open stage to the next one."""
ANY_STAGE_SHARE = 0.2
"""The share of changes that move a lead to any stage: lost, back or reopened."""
ROLES = ("Agent", "Senior agent", "Team lead", None)
# {0} and {1} are the first three and the last four of a lead's own seven digits.
PHONE_FORMATS = (
    *("+1 (415) {0}-{1}", "+1212{0}{1}", "(646) {0}-{1}", "512.{0}.{1}"),
    *("+49 170 {0}{1}", "+33 6 12 {0} {1}", "0044 7700 {0}{1}", "+52 55 1{0} {1}"),
)
BUDGETS = ("500000", "1,2 Mio €", 750000, 1.25, None)
AREAS = ("Old Town", "São Conrado", "Zürich-West", "渋谷区", "Αθήνα", None)
NOTES = ("Calls back after 6 pm", "wants a 🐕 garden", 'said "maybe"', "", None)

POOL_SIZE = 300
POOL_SEED = 20260701
YEAR_SECONDS = 365 * 24 * 3600
QUIET_SECONDS = 600
"""The last change is at least this long before the start of the sandbox."""
SETTLED_SECONDS = 3600
"""The last lead is created at least this long before that."""
TIE_SHARE = 0.05
"""The share of leads whose `updated_at` equals that of another lead."""


@dataclasses.dataclass(frozen=True)
class _Pool:
    """The parts of which leads are made. Each part is checked once."""

    people: list[Lead]
    phones: tuple[str | None, ...]
    stages: list[Lead]
    histories: list[Lead]
    custom_fields: list[Lead]


class LeadMaker:
    """Makes up leads: the same leads for the same seed."""

    def __init__(self, seed: int | str, customer_id: str = CUSTOMER_ID) -> None:
        """Start a series of leads of this customer."""
        self._customer_id = customer_id
        self._random = random.Random(seed)  # noqa: S311 - leads are no secret
        self._pool = _pool()
        self._number = 0

    def past(self, count: int, start: float) -> t.Iterator[Lead]:
        """Yield leads of the year before `start` (epoch seconds).

        They need no check: their parts have been checked.
        """
        # Sorted as they are read later, so that the rows of a page are neighbours.
        for updated, created in sorted(self._dates(count, start)):
            yield self._lead(created, updated)

    def _dates(self, count: int, start: float) -> t.Iterator[tuple[int, int]]:
        """Yield (updated, created) of each lead, in milliseconds since 1970."""
        end = round((start - QUIET_SECONDS) * 1000)
        updated = 0
        for _ in range(count):
            age = self._random.uniform(SETTLED_SECONDS, YEAR_SECONDS)
            created = end - round(age * 1000)
            if self._random.random() > TIE_SHARE or updated < created:
                updated = self._random.randint(created, end)
            yield updated, created

    def new(self, now: int) -> Lead:
        """Return a lead that is created `now` (milliseconds since 1970)."""
        return self._lead(now, now)

    def change(self, lead: Lead, now: int) -> Lead:
        """Return the lead as it is after an interaction `now`."""
        stage, time = self._move(lead.get("current_stage")), format_timestamp(now)
        slug = (stage or {}).get("slug", "")
        return {
            **lead,
            "current_stage": stage,
            "status": STATUS_BY_STAGE.get(slug, "active"),
            "interaction_count": lead.get("interaction_count", 0) + 1,
            "last_interaction_at": time,
            "updated_at": time,
        }

    def _move(self, stage: Lead | None) -> Lead | None:
        """Return the stage after a change of a lead in this stage."""
        stages = self._pool.stages
        index = stages.index(stage) if stage in stages else -1
        roll = self._random.random()
        if roll < ANY_STAGE_SHARE:
            return self._random.choice(stages)
        if index < OPEN_STAGES and roll < ANY_STAGE_SHARE + NEXT_STAGE_SHARE:
            return stages[index + 1]
        return stage

    def _lead(self, created: int, updated: int) -> Lead:
        pick, pool = self._random.choice, self._pool
        self._number += 1
        digits = f"{self._number * 7919 % 10**7:07}"
        person, phone, history = (
            pick(pool.people),
            pick(pool.phones),
            pick(pool.histories),
        )
        email = person["contact_email"]
        has_interactions = history["interaction_count"] > 0
        return {
            "id": str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
            "customer_id": self._customer_id,
            "contact_name": person["contact_name"],
            "contact_phone": phone and phone.format(digits[:3], digits[3:]),
            "contact_email": email and email.replace("@", f"{self._number}@"),
            **history,
            "last_interaction_at": format_timestamp((created + updated) // 2)
            if has_interactions
            else None,
            "created_at": format_timestamp(created),
            "updated_at": format_timestamp(updated),
            "custom_fields": pick(pool.custom_fields),
        }


@functools.cache
def _pool() -> _Pool:
    """Make the parts and check them against the document."""
    rng = random.Random(POOL_SEED)  # noqa: S311 - leads are no secret
    stages = [_stage(*stage) for stage in STAGES]
    pool = _Pool(
        people=_people(),
        phones=(*PHONE_FORMATS, *PHONE_FORMATS, None),
        stages=stages,
        histories=_histories(rng, stages),
        custom_fields=_custom_fields(rng),
    )
    dates = dict.fromkeys(("created_at", "updated_at"), format_timestamp(0))
    fixed = {"id": "", "customer_id": CUSTOMER_ID, **dates}
    phones = itertools.cycle(pool.phones)
    for person, phone, history, custom_fields in zip(
        pool.people, phones, pool.histories, pool.custom_fields, strict=False
    ):
        lead = {**fixed, **person, "contact_phone": phone, **history}
        check_lead({**lead, "custom_fields": custom_fields})
    return pool


def _people() -> list[Lead]:
    """Return names and e-mail addresses. Some of them are null."""
    people: list[Lead] = [
        {"contact_name": name, "contact_email": "odd.name@example.com"}
        for name in (*HARD_NAMES, None)
    ]
    fakers = [faker.Faker(locale) for locale in LOCALES]
    for index, fake in enumerate(fakers):
        fake.seed_instance(POOL_SEED + index)
    for fake in itertools.islice(itertools.cycle(fakers), POOL_SIZE - len(people)):
        email = fake.ascii_safe_email() if len(people) % 15 else None
        people.append({"contact_name": fake.name(), "contact_email": email})
    return people


def _histories(rng: random.Random, stages: list[Lead]) -> list[Lead]:
    """Return sources, states and owners. Every documented value occurs."""
    owners = _owners()
    return [
        {
            "source_platform": PLATFORMS[index % len(PLATFORMS)],
            "source_type": SOURCE_TYPES[index % len(SOURCE_TYPES)],
            "status": STATUSES[index % len(STATUSES)],
            "score": rng.choice((None, *range(0, 101, 5))),
            "qualified": rng.choice((True, False, None)),
            "current_stage": rng.choice((*stages, None)),
            "owner": rng.choice((*owners, None)),
            "interaction_count": rng.choice((0, 0, *range(1, 30))),
        }
        for index in range(POOL_SIZE)
    ]


def _stage(slug: str, name: str, color: str | None) -> Lead:
    return {"id": _uuid(f"stage {slug}"), "slug": slug, "name": name, "color": color}


def _owners() -> list[Lead]:
    fake = faker.Faker("en_US")
    fake.seed_instance(POOL_SEED)
    return [
        {
            "id": _uuid(f"owner {number}"),
            "name": fake.name(),
            "role_name": ROLES[number % len(ROLES)],
        }
        for number in range(8)
    ]


def _uuid(name: str) -> str:
    return str(uuid.uuid5(uuid.UUID(CUSTOMER_ID), name))


def _custom_fields(rng: random.Random) -> list[Lead]:
    """Return custom fields of every scalar type. Some slugs hold several types."""
    return [
        {
            "lead_line": rng.choice(("buyer", "seller", "buyer", None)),
            "budget": rng.choice(BUDGETS),
            "bedrooms": rng.choice((1, 2, 3, 4, None)),
            "commission_rate": rng.choice((2.5, 3, 1.25)),
            "pre_approved": rng.choice((True, False, None)),
            "area": rng.choice(AREAS),
            "notes": rng.choice(NOTES),
        }
        if index % 20
        else {}
        for index in range(POOL_SIZE)
    ]
