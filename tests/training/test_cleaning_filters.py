"""Each filter against examples worked by hand, at the papers' thresholds."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretune_api.cleaning import CharacterFilter, Cleaning, LengthFilter
from pretune_trainer.data.cleaning.c4 import c4_lines, c4_page
from pretune_trainer.data.cleaning.masking import mask
from pretune_trainer.data.cleaning.quality import characters, gopher_quality, length
from pretune_trainer.data.cleaning.reasons import Reason
from pretune_trainer.data.cleaning.repetition import MOST_IN_REPEATED_NGRAMS, MOST_IN_TOP_NGRAM, gopher_repetition
from pretune_trainer.data.cleaning.survey import judge


def words(count: int, start: int = 0, letters: int = 5) -> list[str]:
    """Different words of that many letters."""
    return [
        "".join(chr(97 + number // 26**place % 26) for place in range(letters))
        for number in range(start, start + count)
    ]


PROSE = " ".join(["the", "and", *words(58)])


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"minCharacters": 11, "minWords": 2}, None),
        ({"maxCharacters": 11, "maxWords": 2}, None),
        ({"minCharacters": 12}, Reason.TOO_SHORT),
        ({"minWords": 3}, Reason.TOO_SHORT),
        ({"maxCharacters": 10}, Reason.TOO_LONG),
        ({"maxWords": 1}, Reason.TOO_LONG),
    ],
)
def test_lengths_are_bounds_that_may_be_met(wanted: dict[str, float], reason: Reason | None) -> None:
    assert length("hello world", LengthFilter.model_validate(wanted)) == reason


@pytest.mark.parametrize(
    ("text", "wanted", "reason"),
    [
        ("abc 123 -.", {"minLetters": 0.375}, None),
        ("abc 123 -.", {"minLetters": 0.38}, Reason.FEW_LETTERS),
        ("äбא -", {"minLetters": 0.75}, None),
        ("abc 123 -.", {"maxDigits": 0.375}, None),
        ("abc 123 -.", {"maxDigits": 0.37}, Reason.MANY_DIGITS),
    ],
)
def test_shares_of_characters_leave_white_space_out(text: str, wanted: dict[str, float], reason: Reason | None) -> None:
    assert characters(text, CharacterFilter.model_validate(wanted)) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, None),
        (" ".join(["the", "and", *words(47)]), Reason.GOPHER_WORD_COUNT),
        (" ".join(["the", "and", *words(48)]), None),
        (" ".join(["the", "and", *["ab"] * 58]), Reason.GOPHER_WORD_LENGTH),
        (" ".join(["the", "and", *words(58, letters=11)]), Reason.GOPHER_WORD_LENGTH),
        (PROSE + " #" * 6, None),
        (PROSE + " #" * 7, Reason.GOPHER_SYMBOLS),
        ("..." * 6 + PROSE, None),
        (PROSE + "…" * 7, Reason.GOPHER_SYMBOLS),
        ("\n".join(f"-{word} the and" for word in words(30)), Reason.GOPHER_BULLETS),
        ("\n".join([f"-{word} the and" for word in words(27)] + ["the and"] * 3), None),
        (
            "\n".join(f"{' '.join(words(9, 9 * at))} the and{end}" for at, end in enumerate(["..."] * 3 + [""] * 7)),
            None,
        ),
        (
            "\n".join(f"{' '.join(words(9, 9 * at))} the and{end}" for at, end in enumerate(["…"] * 4 + [""] * 6)),
            Reason.GOPHER_ELLIPSES,
        ),
        (" ".join(["the", "and", *words(46), *["12345"] * 12]), None),
        (" ".join(["the", "and", *words(45), *["12345"] * 13]), Reason.GOPHER_LETTERS),
        (" ".join(["the", *words(58)]), Reason.GOPHER_STOP_WORDS),
        (" ".join(["The,", "“AND”".strip("“”"), *words(58)]), None),
    ],
)
def test_prose_is_told_from_the_rest_by_gophers_rules(text: str, reason: Reason | None) -> None:
    assert gopher_quality(text) == reason


def said_again(repeated: int, of: int) -> str:
    """Lines of a word, of which the last are repetitions, in another order so that no n-gram is."""
    lines = words(of - repeated)
    return "\n".join(lines + lines[:repeated][::-1])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n".join(["a"] * 4 + [" ".join(words(20, 20 * at)) for at in range(7)]), None),
        ("\n".join(["a"] * 5 + [" ".join(words(20, 20 * at)) for at in range(7)]), Reason.GOPHER_LINES),
        ("\n\n".join(["a\nb"] * 5 + ["\n".join(words(4, 4 * at)) for at in range(7)]), Reason.GOPHER_PARAGRAPHS),
        (said_again(4, 20), None),
        (said_again(5, 20), Reason.GOPHER_LINES),
    ],
)
def test_lines_and_paragraphs_said_again_are_at_most_three_in_ten_and_a_fifth_of_the_characters(
    text: str, reason: Reason | None
) -> None:
    assert gopher_repetition(text) == reason


@pytest.mark.parametrize("n", MOST_IN_TOP_NGRAM)
def test_the_most_frequent_ngram_has_at_most_its_share_of_the_characters(n: int) -> None:
    """n words, said `times` times among others: times * n / 100 of the characters of 100 words."""
    assert MOST_IN_TOP_NGRAM == {2: 0.20, 3: 0.18, 4: 0.16}
    at_most = round(MOST_IN_TOP_NGRAM[n] * 100 / n)

    def text(times: int) -> str:
        gram, others = words(n), iter(words(100, 100))
        spread = [word for _ in range(times) for word in [*gram, next(others)]]
        return " ".join([*spread, *(next(others) for _ in range(100 - len(spread)))])

    assert gopher_repetition(text(at_most)) is None
    assert gopher_repetition(text(at_most + 1)) == Reason.GOPHER_TOP_NGRAM


def test_what_ngrams_say_again_is_counted_once_where_they_overlap() -> None:
    """Of 100 words, the last `again` repeat the first: that share of the characters, for every n up to it."""
    assert MOST_IN_REPEATED_NGRAMS == {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}

    def text(again: int) -> str:
        return " ".join(words(100 - again) + words(again))

    assert gopher_repetition(text(10)) is None  # 10% in 10-grams is not more than 10%
    assert gopher_repetition(text(11)) == Reason.GOPHER_NGRAMS
    assert gopher_repetition(text(5) + " " + " ".join(words(5))) is None


@given(st.lists(st.sampled_from(words(400)), min_size=2, max_size=60))
@settings(max_examples=150)
def test_shares_of_ngrams_are_those_of_a_plain_count(text: list[str]) -> None:
    def plain() -> Reason | None:
        size = sum(map(len, text))
        for n in range(2, 11):
            grams = [tuple(text[at : at + n]) for at in range(len(text) - n + 1)]
            counts = Counter(grams)
            if n in MOST_IN_TOP_NGRAM and grams:
                top = max(counts.values())
                share = max(top * sum(map(len, gram)) for gram in counts if counts[gram] == top) / size
                if top > 1 and share > MOST_IN_TOP_NGRAM[n]:
                    return Reason.GOPHER_TOP_NGRAM
            if n in MOST_IN_REPEATED_NGRAMS:
                again = {at + place for at, gram in enumerate(grams) if gram in grams[:at] for place in range(n)}
                if sum(len(text[at]) for at in again) / size > MOST_IN_REPEATED_NGRAMS[n]:
                    return Reason.GOPHER_NGRAMS
        return None

    found = gopher_repetition(" ".join(text))
    assert found == plain() or found in (Reason.GOPHER_LINES, Reason.GOPHER_PARAGRAPHS)


def test_c4_keeps_lines_that_are_sentences_once() -> None:
    page = [
        "This line is a whole sentence.",
        "Too short a line.",
        "This line has no end mark",
        "This one trails off, as it were...",
        "Please enable Javascript to see this page.",
        "By going on you accept our privacy policy.",
        "  She asked: is this a sentence?  ",
        "This line is a whole sentence.",
    ]
    assert c4_lines("\n".join(page)) == "This line is a whole sentence.\nShe asked: is this a sentence?"


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("One is here. Two is there! Three?", None),
        ("One is here. Version 1.2 counts once.", Reason.C4_SENTENCES),
        ("One. Two. Three. Lorem Ipsum.", Reason.C4_LOREM_IPSUM),
        ("One. Two. Three. {", Reason.C4_BRACES),
    ],
)
def test_c4_drops_pages_with_few_sentences_filler_or_code(page: str, reason: Reason | None) -> None:
    assert c4_page(page) == reason


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to ann.b+c@mail.example.co.uk, now", "write to |||EMAIL_ADDRESS|||, now"),
        ("@decorator, a @ b, and git@host", "@decorator, a @ b, and git@host"),
        ("from 192.168.0.1 and 255.255.255.255.", "from |||IP_ADDRESS||| and |||IP_ADDRESS|||."),
        ("version 1.2.3, 256.1.1.1, 1.2.3.4.5", "version 1.2.3, 256.1.1.1, 1.2.3.4.5"),
        (
            "via 2001:db8::ff00:42:8329 at 12:30:45, std::vector, x[::2]",
            "via |||IP_ADDRESS||| at 12:30:45, std::vector, x[::2]",
        ),
        ("call (555) 123-4567 or 555-123-4567", "call |||PHONE_NUMBER||| or |||PHONE_NUMBER|||"),
        ("call +44 20 7946 0958 or +1 (555) 123-4567.", "call |||PHONE_NUMBER||| or |||PHONE_NUMBER|||."),
        ("on 2021-11-22, 100 000 000 of 3.14159, +5", "on 2021-11-22, 100 000 000 of 3.14159, +5"),
    ],
)
def test_personal_data_is_masked_and_what_looks_like_it_is_not(text: str, masked: str) -> None:
    seen: Counter[str] = Counter()
    kinds = ["emailAddress", "ipAddress", "phoneNumber"]
    assert mask(text, kinds, seen) == masked
    assert seen.total() == masked.count("|||") // 2
    assert mask(masked, kinds, Counter()) == masked


texts = st.lists(
    st.sampled_from([*words(30), "the", "and", "1234", "#", "End.", "\n", "\n\n", "a@b.org"]), max_size=90
).map(" ".join)


@given(texts)
@settings(max_examples=100)
def test_edits_change_nothing_the_second_time(text: str) -> None:
    once = c4_lines(mask(text, ["emailAddress"], Counter()))
    assert c4_lines(mask(once, ["emailAddress"], Counter())) == once


@given(texts)
@settings(max_examples=100)
def test_with_more_filters_fewer_documents_stay(text: str) -> None:
    filters = ["c4", "gopherQuality", "gopherRepetition"]
    judged = [judge(text, Cleaning(filters=filters[:count])) is None for count in range(len(filters) + 1)]
    assert all(before or not after for before, after in pairwise(judged))
