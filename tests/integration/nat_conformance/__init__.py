"""What RFC 4787, 5382 and 5508 ask of a translating router, as black-box tests from both sides; see docs/nat.md."""
