"""What the name of a ROI says: words of seven languages compared with the table brachy/data/roi_names.toml.

A name is normalised (Unicode NFKC, case, accents, traditional characters), cut into words at spaces, signs, digits and
capitals, and searched for the table's terms. Of terms of two roles the one that holds the other's words decides
("gall bladder" over "bladder"), then a kind of structure over an organ ("renal artery" is a vessel); what is left
undecided is not understood, and the caller treats it as an obstacle.
"""

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from typing import Any

from brachy import resources

LANGUAGES = ("en", "zh", "de", "fr", "es", "ja", "la")
SOFT = ("skin", "fat", "muscle", "device")
"""Roles that do not decide over another role that a name could have, since they stop no needle, or are no organ."""

MOST_WAYS = 64
"""Ways of one term to fit into a name that are tried (engineering choice); names have few words."""

LEAST_STEM = 4
"""Letters that are left when a side is taken off a word: "kidneyr" is a kidney, "ear" is not a right "ea"."""

_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff々ー"
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—−", "-"))
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})
_LIGATURES = str.maketrans({"œ": "oe", "æ": "ae", "ı": "i"})
# as TG-263 and anatomists write them: A_Hepatic, V_Portal, A. hepatica, Vv. hepaticae, N. vagus
_LETTER = re.compile(
    r"(?P<vessel>[AV]_(?=[A-Z][A-Za-z])|(?:Aa?|Vv?)\.\s?(?=[A-Za-z]{3}))|(?P<nerve>Nn?\.\s?(?=[A-Za-z]{3}))"
)


@dataclass(frozen=True)
class Term:
    """A name of the table, normalised."""

    role: str
    shown: str
    """As it stands in the table."""
    language: str
    words: tuple[frozenset[str], ...]
    """Spellings of each word, Latin letters; empty for a Chinese or Japanese term."""
    characters: str
    """Of a Chinese or Japanese term; "" for others."""
    ending: bool
    """Whether it may be the end of a longer word."""
    plural: bool
    """Whether a word may have a plural s."""
    kind: bool
    """Whether it names a kind of structure, such as an artery."""
    whole: bool
    """Whether it counts only as the whole name (abbreviations)."""

    @cached_property
    def joined(self) -> frozenset[str]:
        """The words written as one."""
        return frozenset("".join(parts) for parts in product(*self.words))


@dataclass(frozen=True, eq=False)
class Table:
    """The table of names, ready to be compared with."""

    terms: tuple[Term, ...]
    codes: Mapping[tuple[str, str], tuple[str, str]]
    """(scheme, value) to (role, thing)."""
    words: Mapping[str, frozenset[str]]
    less: re.Pattern[str]
    """What follows an organ's name where it lacks the target: "-GTV"."""
    simplified: Mapping[int, int]


@dataclass(frozen=True)
class Reading:
    """What a name says: a role and the words for it, or no role and why not."""

    role: str
    why: str


@dataclass(frozen=True)
class _Match:
    term: Term
    places: frozenset[int]


@lru_cache(maxsize=1)
def table() -> Table:
    """The shipped table of names."""
    path = resources.data_file("roi_names.toml")
    return table_of(tomllib.loads(path.read_text(encoding="utf-8")))


def table_of(data: Mapping[str, Any]) -> Table:
    """A table of names from the content of such a file.

    Examples
    --------
    >>> small = {"words": {}, "characters": {}, "heart": {"heart": {"de": ["Herz"], "codes": ["FMA 7088"]}}}
    >>> table_of(small).codes
    {('FMA', '7088'): ('heart', 'heart')}
    """
    characters = data.get("characters", {})
    simplified = str.maketrans(characters.get("traditional", ""), characters.get("simplified", ""))
    words = {
        name: frozenset(folded for word in given for folded in _spellings(word, simplified))
        for name, given in data.get("words", {}).items()
        if isinstance(given, list)
    }
    terms: list[Term] = []
    codes: dict[tuple[str, str], tuple[str, str]] = {}
    for role, things in data.items():
        if role in ("sources", "words", "characters"):
            continue
        for thing, block in things.items():
            terms += _terms(role, block, simplified)
            for code in block.get("codes", ()):
                scheme, _, value = code.partition(" ")
                codes[scheme, value] = (role, thing.replace("_", " "))
    minus = sorted(words.get("less_targets", ()), key=len, reverse=True)
    less = rf"(?<=[\w)])\s*-\s*(?:{'|'.join(map(re.escape, minus))}).*" if minus else r"(?!)"
    return Table(tuple(terms), codes, words, re.compile(less, re.IGNORECASE), simplified)


def _terms(role: str, block: Mapping[str, Any], simplified: Mapping[int, int]) -> Iterator[Term]:
    for language in (*LANGUAGES, "short"):
        for shown in block.get(language, ()):
            ending, name = shown.startswith("*"), shown.removeprefix("*")
            plain = _normalised(name, simplified)
            cjk = re.search(f"[{_CJK}]", plain) is not None
            pieces = [] if cjk else re.findall(r"[^\W\d_]+", plain)
            yield Term(
                role=role,
                shown=name,
                language="" if language == "short" else language,
                words=tuple(frozenset(_spellings(piece, simplified)) for piece in pieces),
                characters=plain.casefold() if cjk else "",
                ending=ending,
                plural=language in ("en", "fr", "es"),
                kind=bool(block.get("kind", False)),
                whole=language == "short",
            )


def _normalised(text: str, simplified: Mapping[int, int]) -> str:
    """NFKC, plain hyphens, simplified characters."""
    return unicodedata.normalize("NFKC", text).translate(_DASHES).translate(dict(simplified))


def _spellings(word: str, simplified: Mapping[int, int]) -> tuple[str, ...]:
    """A word folded: as it is without accents, and with German ae, oe, ue."""
    plain = _normalised(word, simplified).casefold()
    return tuple(dict.fromkeys((_folded(plain), _folded(plain.translate(_UMLAUTS)))))


def _folded(word: str) -> str:
    """A word without case and without the accents of Latin letters.

    Examples
    --------
    >>> _folded("Hígado"), _folded("Gefäß"), _folded("cœur"), _folded("が")
    ('higado', 'gefass', 'coeur', 'が')
    """
    lower = word.casefold().translate(_LIGATURES)
    return "".join(unicodedata.normalize("NFD", c)[0] if "\u00c0" <= c <= "\u024f" else c for c in lower)


def pieces_of(name: str) -> list[str]:
    """Latin words, and runs of Chinese or Japanese characters, of a normalised name, in their order.

    Examples
    --------
    >>> pieces_of("PortalSplenicVein_2"), pieces_of("右肾GTV"), pieces_of("KÖRPERKontur")
    (['Portal', 'Splenic', 'Vein'], ['右肾', 'GTV'], ['KÖRPER', 'Kontur'])
    """
    # GTVp, GTVn, CTVnd: the letter behind says which, and is no word
    name = re.sub(r"((?:GTV|CTV|PTV|ITV))[a-z]{1,2}(?![a-z])", r"\1", name)
    name = re.sub(r"(?<![^\W\d_])([A-Z]{2,})s(?![^\W\d_])", r"\1", name)  # VBs, LNs: several of them
    shape = "".join(map(_shape, name))
    return [name[m.start() : m.end()] for m in re.finditer(r"A+(?!a)|A?a+|C+", shape)]


def _shape(character: str) -> str:
    if re.match(f"[{_CJK}]", character):
        return "C"
    if not character.isalpha():
        return " "
    return "A" if character.isupper() else "a"


def read(name: str, *, organ: bool = False) -> Reading:
    """What a ROI's name says.

    Parameters
    ----------
    name : str
        As it stands in the structure set.
    organ : bool
        The ROI is drawn as an organ: never a target or the outline of the patient, whatever it is called.

    Examples
    --------
    >>> read("门静脉").role, read("Pfortader").role, read("V_Portal").role, read("KidneyR").role
    ('vessel', 'vessel', 'vessel', 'kidney')
    >>> read("Ring").role, read("Ring").why
    ('', 'its name is not in the table of names')
    """
    return _reading(name, organ, table())


@lru_cache(maxsize=4096)
def _reading(name: str, organ: bool, known: Table) -> Reading:
    plain = _normalised(name, known.simplified).strip()
    pieces, lacking = _without_target(plain, known)
    latin = [_folded(piece) for piece in pieces if _shape(piece[0]) != "C"]
    runs = [piece for piece in pieces if _shape(piece[0]) == "C"]
    if not organ and _is_outline(latin, runs, known.words):
        if lacking:
            return Reading("", "it is an outline of the patient less something")
        return Reading("external", f"an outline of the patient is called '{name}'")
    found = [*_latin_matches(latin, known), *_cjk_matches(runs, known), *_letter_match(plain)]
    return _decided(_outlasting(found), target_allowed=not (organ or lacking))


def _without_target(plain: str, known: Table) -> tuple[list[str], bool]:
    """Pieces of a name up to what it lacks ("Liver-GTV" is "Liver"), and whether anything was cut."""
    head = known.less.sub("", plain)
    whole = pieces_of(head)
    marks = known.words.get("less", frozenset())
    kept: list[str] = []
    for piece in whole:
        if _folded(piece) in marks:
            break
        before = min((piece.find(m) for m in known.words.get("less_cjk", ()) if m in piece), default=-1)
        if before >= 0:
            kept += [piece[:before]] if before else []
            break
        kept.append(piece)
    return kept, head != plain or kept != whole


def _is_outline(latin: Sequence[str], runs: Sequence[str], words: Mapping[str, frozenset[str]]) -> bool:
    if runs:
        return not latin and all(run in words.get("outline_cjk", ()) for run in runs)
    needed = words.get("outline_needed", frozenset())
    allowed = needed | words.get("outline", frozenset())
    return any(word in needed for word in latin) and all(word in allowed for word in latin)


def _latin_matches(words: Sequence[str], known: Table) -> Iterator[_Match]:
    telling = [k for k, word in enumerate(words) if not _says_nothing(word, known.words)]
    forms = [_forms(word) for word in words]
    for term in known.terms:
        if term.characters:
            continue
        if term.whole:
            if len(telling) == 1 and words[telling[0]] in term.words[0] and len(term.words) == 1:
                yield _Match(term, frozenset(telling))
            continue
        options = [[k for k, form in enumerate(forms) if _fits(form, word, term)] for word in term.words]
        for ways, places in enumerate(product(*options)):
            if ways >= MOST_WAYS:
                break
            if len(set(places)) == len(places):
                yield _Match(term, frozenset(places))
        if len(term.words) > 1:
            for k, form in enumerate(forms):
                if _fits(form, term.joined, term):
                    yield _Match(term, frozenset([k]))


def _says_nothing(word: str, words: Mapping[str, frozenset[str]]) -> bool:
    return word in words.get("side", ()) or word in words.get("filler", ())


def _forms(word: str) -> tuple[str, ...]:
    """A word, and what is left of it without a side written onto it: "kidneyr", "ltlung"."""
    found = [word]
    for side in ("left", "right", "lt", "rt", "l", "r"):
        for rest in (word.removeprefix(side), word.removesuffix(side)):
            if rest != word and len(rest) >= LEAST_STEM:
                found.append(rest)
    return tuple(dict.fromkeys(found))


def _fits(forms: Sequence[str], spellings: frozenset[str], term: Term) -> bool:
    for form in forms:
        if form in spellings:
            return True
        if term.plural and (form.removesuffix("s") in spellings or form.removesuffix("es") in spellings):
            return True
        if term.ending and any(form.endswith(word) for word in spellings):
            return True
    return False


def _cjk_matches(runs: Sequence[str], known: Table) -> Iterator[_Match]:
    beside = sorted(known.words.get("beside_cjk", ()), key=len, reverse=True)
    filling = re.compile(f"(?:{'|'.join(map(re.escape, beside))})*" if beside else "")
    start = 10_000  # beyond every Latin word
    for run in runs:
        text = run.casefold()
        for term in known.terms:
            wanted = term.characters
            place = text.find(wanted) if wanted else -1
            while place >= 0:
                end = place + len(wanted)
                last = filling.fullmatch(text[end:]) is not None
                alone = last and filling.fullmatch(text[:place]) is not None
                if last if term.ending else alone or len(wanted) > 1:
                    yield _Match(term, frozenset(range(start + place, start + end)))
                place = text.find(wanted, place + 1)
        start += len(text) + 1


def _letter_match(head: str) -> Iterator[_Match]:
    found = _LETTER.match(head)
    if found is not None:
        role = str(found.lastgroup)
        term = Term(role, found[0].strip(), "", (), "", False, False, True, False)
        yield _Match(term, frozenset([-1]))


def _outlasting(found: Sequence[_Match]) -> list[_Match]:
    """Matches that no longer one of another role holds: "bladder" is no word of "gall bladder"."""

    def size(match: _Match) -> int:
        return len(match.term.characters) or max((len(word) for word in match.term.joined), default=0)

    def held(match: _Match) -> bool:
        for other in found:
            if other.term.role == match.term.role or not match.places <= other.places:
                continue
            if match.places < other.places or size(match) < size(other):
                return True
        return False

    return [match for match in found if not held(match)]


def _decided(found: Sequence[_Match], target_allowed: bool) -> Reading:
    if target_allowed:
        for match in found:
            if match.term.role == "target":
                return Reading("target", _words(match.term))
    found = [match for match in found if match.term.role != "target"]
    roles = _of(found)
    kinds = _of(match for match in found if match.term.kind)
    firm = [role for role in roles if role != "organ"]
    if len(roles) > 1 and len(kinds) == 1:
        roles = kinds
    elif len(roles) == 2 and len(firm) == 1 and firm[0] not in SOFT:
        roles = firm
    if len(roles) == 1:
        (role,) = roles
        longest = max((m.term for m in found if m.term.role == role), key=lambda t: len(t.shown))
        return Reading(role, _words(longest))
    if not roles:
        return Reading("", "its name is not in the table of names")
    named = [next(m.term for m in found if m.term.role == role) for role in roles]
    could = " or ".join(f"{term.role.replace('_', ' ')} ('{term.shown}')" for term in named)
    return Reading("", f"its name may mean {could}")


def _of(found: Iterable[_Match]) -> list[str]:
    return list(dict.fromkeys(match.term.role for match in found))


def _words(term: Term) -> str:
    return f"'{term.shown}' ({term.language})" if term.language else f"'{term.shown}' (abbreviation)"
