"""The rules of address translation: those of the configuration, and those that the operator gives with `nat add`.

The latter are kept in a file of the run directory, as permanent neighbours are, and so outlive every service. Pure but
for that file.
"""

from pathlib import Path
from typing import Final

from pydantic import ValidationError

from services.common.errors import HopwireError
from services.common.nat_rules import Forward, Masquerade, NatRules, OneToOne

Rule = Masquerade | Forward | OneToOne
SECTIONS: Final = {Masquerade: "masquerade", Forward: "forward", OneToOne: "one_to_one"}


def nat_path(run_dir: Path) -> Path:
    """Return the file that keeps the operator's rules."""
    return run_dir / "nat.json"


def section_of(rule: Rule) -> str:
    """Return the name of the list that holds rules of this kind."""
    return SECTIONS[type(rule)]


def key_of(rule: Rule) -> tuple[str, ...]:
    """Return what tells a rule from all others."""
    match rule:
        case Masquerade():
            return ("masquerade", rule.interface)
        case Forward():
            return ("forward", rule.protocol, rule.address, str(rule.port))
        case OneToOne():
            return ("one-to-one", rule.outside)


def rules_of(rules: NatRules) -> list[Rule]:
    """Return all rules, of whatever kind."""
    return [*rules.masquerade, *rules.forward, *rules.one_to_one]


class NatStore:
    """The rules in force."""

    def __init__(self, configured: NatRules, path: Path) -> None:
        """Read the operator's rules; a file that makes no sense is left alone, and `warning` says so."""
        self._configured = configured
        self._path = path
        self._changed = False
        self._given: list[Rule] = []
        self.warning = ""
        try:
            given = rules_of(NatRules.model_validate_json(path.read_bytes()))
            self.current = self._joined(given)
            self._given = given
        except FileNotFoundError:
            self.current = configured
        except (OSError, ValueError) as error:
            self.current = configured
            reason = error.strerror if isinstance(error, OSError) else "they are no rules, or contradict others"
            self.warning = f"the rules of address translation in {path} are not used: {reason}; remove the file"

    def is_configured(self, key: tuple[str, ...]) -> bool:
        """Tell whether the configuration gives a rule, so that the operator's word does not change it."""
        return any(key_of(rule) == key for rule in rules_of(self._configured))

    def find(self, key: tuple[str, ...]) -> Rule | None:
        """Return a rule in force."""
        return next((rule for rule in rules_of(self.current) if key_of(rule) == key), None)

    def add(self, rule: Rule) -> None:
        """Add a rule.

        :raises ValueError: it contradicts another; in words.
        :raises HopwireError: the file cannot be written; nothing has changed.
        """
        self._keep([*self._given, rule])

    def remove(self, key: tuple[str, ...]) -> None:
        """Remove a rule of the operator's.

        :raises HopwireError: as `add`.
        """
        self._keep([rule for rule in self._given if key_of(rule) != key])

    def clear(self) -> int:
        """Remove all rules of the operator's; return how many there were.

        :raises HopwireError: as `add`.
        """
        count = len(self._given)
        self._keep([])
        return count

    def take_changed(self) -> bool:
        """Tell whether there was a change since the last call."""
        changed, self._changed = self._changed, False
        return changed

    def _joined(self, given: list[Rule]) -> NatRules:
        """Return the configuration's rules and these.

        :raises ValueError: they contradict each other; in words.
        """
        values = self._configured.model_dump()
        for rule in given:
            values[section_of(rule)] = (*values[section_of(rule)], rule.model_dump())
        try:
            return NatRules.model_validate(values)
        except ValidationError as error:
            message = error.errors(include_url=False)[0]["msg"]
            raise ValueError(message.removeprefix("Value error, ").replace("Tuple", "The list")) from error

    def _keep(self, given: list[Rule]) -> None:
        joined = self._joined(given)
        sections: dict[str, list[object]] = {}
        for rule in given:
            sections.setdefault(section_of(rule), []).append(rule)
        new = self._path.with_suffix(".new")
        try:
            new.write_text(NatRules.model_validate(sections).model_dump_json(include=set(SECTIONS.values())))
            new.replace(self._path)
        except OSError as error:
            raise HopwireError(f"cannot keep the rules in {self._path}: {error.strerror}") from error
        self.current = joined
        self._given = given
        self._changed = True
