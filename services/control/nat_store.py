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
    """The rules in force.

    :ivar current: those of the configuration, and those of the operator's that do not contradict them.
    """

    def __init__(self, configured: NatRules, path: Path) -> None:
        """Read the operator's rules; a file that makes no sense is left alone, and `warning` says so."""
        self._configured = configured
        self._path = path
        self._changed = False
        self._given: list[Rule] = []
        self._unread = ""
        try:
            self._given = rules_of(NatRules.model_validate_json(path.read_bytes()))
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "they are no rules, or contradict each other"
            self._unread = f"the rules of address translation in {path} are not used: {reason}; remove the file"
        self._unite()

    @property
    def warning(self) -> str:
        """What the user should know; empty where there is nothing."""
        return self._unread or self._aside

    def is_configured(self, key: tuple[str, ...]) -> bool:
        """Tell whether the configuration gives a rule, so that the operator's word does not change it."""
        return any(key_of(rule) == key for rule in rules_of(self._configured))

    def find(self, key: tuple[str, ...]) -> Rule | None:
        """Return a rule in force, or one of the operator's that has to wait for the configuration."""
        return next((rule for rule in (*rules_of(self.current), *self._given) if key_of(rule) == key), None)

    def add(self, rule: Rule) -> None:
        """Add a rule.

        :raises ValueError: it contradicts another; in words.
        :raises HopwireError: the file cannot be written; nothing has changed.
        """
        _joined(self.current, [rule])
        self._keep([*self._given, rule])

    def remove(self, key: tuple[str, ...]) -> None:
        """Remove a rule of the operator's.

        :raises HopwireError: as `add`.
        """
        self._keep([rule for rule in self._given if key_of(rule) != key])

    def configure(self, configured: NatRules) -> None:
        """Take other rules of the configuration; the operator's stay, and wait where they contradict these."""
        before, self._configured = self.current, configured
        self._unite()
        self._changed = self._changed or self.current != before

    def take_changed(self) -> bool:
        """Tell whether there was a change since the last call."""
        changed, self._changed = self._changed, False
        return changed

    def _unite(self) -> None:
        """Let hold what the configuration says, and of the operator's rules those that go with it."""
        self.current = self._configured
        waiting: list[str] = []
        for rule in self._given:
            if self.is_configured(key_of(rule)):
                continue  # the configuration's word
            try:
                self.current = _joined(self.current, [rule])
            except ValueError as error:
                waiting.append(f"{' '.join(key_of(rule))} ({error})")
        self._aside = ""
        if waiting:
            told = "; ".join(waiting)
            self._aside = f"rules of `nat add` are not used, since the configuration contradicts them: {told}"

    def _keep(self, given: list[Rule]) -> None:
        text = _joined(NatRules(), given).model_dump_json(include=set(SECTIONS.values()))
        new = self._path.with_suffix(".new")
        try:
            new.write_text(text)
            new.replace(self._path)
        except OSError as error:
            raise HopwireError(f"cannot keep the rules in {self._path}: {error.strerror}") from error
        self._given = given
        self._unread = ""
        self._unite()
        self._changed = True


def _joined(rules: NatRules, more: list[Rule]) -> NatRules:
    """Return rules and more of them.

    :raises ValueError: they contradict each other; in words.
    """
    values = rules.model_dump()
    for rule in more:
        values[section_of(rule)] = (*values[section_of(rule)], rule.model_dump())
    try:
        return NatRules.model_validate(values)
    except ValidationError as error:
        message = error.errors(include_url=False)[0]["msg"]
        raise ValueError(message.removeprefix("Value error, ").replace("Tuple", "The list")) from error
