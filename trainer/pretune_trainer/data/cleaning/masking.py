"""Personal data in texts is replaced, by the words that Dolma has for it (Soldaini et al. 2024, section 5.3)."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import AddressValueError, IPv6Address
from typing import Final

_BYTE: Final = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_EMAIL: Final = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b")
_IP: Final = re.compile(
    rf"(?<![\w.])(?:{_BYTE}\.){{3}}{_BYTE}(?!\w|\.\w)"
    r"|(?<![\w:.])(?:[0-9A-Fa-f]{1,4}::?){2,7}[0-9A-Fa-f]{1,4}(?![\w:])"
)
_PHONE: Final = re.compile(
    r"(?<![\w.+-])(?:\+?1[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-]|\.\d)"
    r"|(?<!\w)\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,5}(?!\w)"
)
"""As written in North America, or with a + and the country's number anywhere."""
_FEWEST_DIGITS: Final = 8
"""In a number with a country."""


def _always(found: str) -> bool:
    return True


def _is_address(found: str) -> bool:
    if ":" not in found:
        return True
    try:
        IPv6Address(found)
    except AddressValueError:  # a time, such as 12:30:45
        return False
    return True


def _is_number(found: str) -> bool:
    return sum(map(str.isdigit, found)) >= _FEWEST_DIGITS


_KINDS: Final[dict[str, tuple[str, re.Pattern[str], re.Pattern[str], Callable[[str], bool]]]] = {
    "emailAddress": ("|||EMAIL_ADDRESS|||", re.compile("@"), _EMAIL, _always),
    "ipAddress": ("|||IP_ADDRESS|||", re.compile(rf"\.{_BYTE}\.\d|:[0-9A-Fa-f]{{0,4}}:[0-9A-Fa-f]"), _IP, _is_address),
    "phoneNumber": ("|||PHONE_NUMBER|||", re.compile(r"[ .-]\d{4}|\+\d"), _PHONE, _is_number),
}
"""By kind: the word for it, what each of them has in it (looked for first: it is fast, and mostly not there), what it
looks like, and whether what looks like one is one."""


def mask(text: str, kinds: Sequence[str], seen: Counter[str]) -> str:
    """The text without personal data of these kinds; what is replaced is counted in `seen`."""
    for kind in kinds:
        text = _mask(text, kind, seen)
    return text


def _mask(text: str, kind: str, seen: Counter[str]) -> str:
    word, hint, pattern, is_one = _KINDS[kind]
    if not hint.search(text):
        return text

    def replace(match: re.Match[str]) -> str:
        if not is_one(match[0]):
            return match[0]
        seen[kind] += 1
        return word

    return pattern.sub(replace, text)
