"""A rate with a burst: so many a second on average, and so many at once. Pure."""

from dataclasses import dataclass


@dataclass
class TokenBucket:
    """Tokens come at a rate, and are spent one by one."""

    per_second: float
    burst: float
    tokens: float
    filled_at: float

    @classmethod
    def full(cls, per_second: float, burst: float, now: float) -> "TokenBucket":
        """Return a bucket that begins full."""
        return cls(per_second, burst, burst, now)

    def available(self, now: float) -> int:
        """Return how many tokens there are."""
        self.tokens = min(self.burst, self.tokens + (now - self.filled_at) * self.per_second)
        self.filled_at = now
        return max(0, int(self.tokens))

    def has_token(self, now: float) -> bool:
        """Tell whether there is a token."""
        return self.available(now) >= 1

    def spend(self, count: int) -> None:
        """Take tokens, from those to come if there are too few; a whole burst is owed at most."""
        self.tokens = max(-self.burst, self.tokens - count)

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        if not self.has_token(now):
            return False
        self.tokens -= 1
        return True

    def owe(self, now: float) -> None:
        """Take a token, from those to come if there is none; a whole burst is owed at most."""
        self.available(now)
        self.spend(1)
