"""Secrets out of a text before a model sees it: [email], [phone], [card], [iban], [key], [password], [code].

Precision counts as much as recall: order numbers, years, versions, prices, hashes and addresses of
the network stay. Masking is idempotent: a mask holds nothing that any rule would mask again.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator

import phonenumbers
from stdnum import iban, luhn

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@(?:[\w-]+\.)+[^\W\d_]{2,}(?![\w-])", re.UNICODE)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
# Tokens that carry their maker's mark: Telegram bots, OpenAI, Stripe, GitHub, GitLab, Slack, AWS, Google, JWT.
_KEYS = re.compile(
    r"(?<![\w-])(?:"
    r"\d{8,10}:[A-Za-z0-9_-]{35}"
    r"|(?:sk|pk|rk)[-_](?:(?:live|test|proj|ant|or)[-_])?[A-Za-z0-9_-]{16,}"
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"
    r"|xox[abeprs]-[A-Za-z0-9-]{10,}"
    r"|A(?:KIA|SIA)[0-9A-Z]{16}"
    r"|AIza[\w-]{35}"
    r"|hf_[A-Za-z0-9]{20,}"
    r"|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"
    r")(?![\w-])"
)
_URL_LOGIN = re.compile(r"(?<=://)[^\s/:@]+:[^\s/@]+(?=@)")
# "password: hunter2", "пароль - …", "şifre …": the word, a sign or a form of 'is', then one token.
_PASSWORD = re.compile(
    r"(?P<head>(?<!\w)(?:pass(?:word|wort|code|phrase)|passwd|pwd|pw|kennwort|mot de passe|contraseña|"
    r"parola|şifre(?:m|si)?|пароль|pin(?:[ -]?code)?|пин(?:-?код)?)\b"
    r"(?:\s+(?:for|of|to|für|für's|для|от)\s+[^\s:=]+(?:\s+[^\s:=]+)?)?"
    r"(?:\s*[:=]\s*|\s+(?:is|ist|est|es|это)\s*:?\s+|\s+[-–—]\s+|(?<=code)\s+(?=\d{4})|(?<=pin)\s+(?=\d{4})))"
    r"(?P<secret>[\"'«“`]?[^\s\"'»”`]{4,}[\"'»”`]?)",
    re.IGNORECASE,
)
_API_KEY = re.compile(
    r"(?P<head>(?<!\w)(?:api[ _-]?key|secret(?:[ _-]?key)?|(?:access|auth)[ _-]?token|client[ _-]?secret|bearer)"
    r"(?:\s*[:=]\s*|\s+(?:is\s+)?))(?P<secret>(?=[^\s]*\d)[A-Za-z0-9_\-./+=]{12,})",
    re.IGNORECASE,
)
_CODE = re.compile(
    r"(?P<head>(?<!\w)(?:login|verification|confirmation|security|one[- ]time|2fa|sms|auth)\s+code\b"
    r"[^\d\n]{0,12}|"
    r"(?<!\w)(?:код (?:подтверждения|для входа)|Bestätigungscode|doğrulama kodu)[^\d\n]{0,12})"
    r"(?P<secret>\d[\d -]{3,8}\d)",
    re.IGNORECASE,
)
_CARD = re.compile(r"(?<![\w.,:/#=-])\d(?:[ -]?\d){12,18}(?![\w/]|[.,:-]\d)")
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?!\w)")
_MAYBE_PHONE = re.compile(r"\+\d|\(?\d[\d ()./-]{5,}\d")
_PHONE_GROUPED = re.compile(r"[ ()-]")
_DATE_LIKE = re.compile(r"\d{1,4}[-./ ]\d{1,2}[-./ ]\d{1,4}")
_ORDINARY_WORDS = re.compile(
    r"(?:reset|change[ds]?|forgot(?:ten)?|wrong|protected|required|manager|expired|incorrect|missing|invalid|"
    r"needed|empty|field|only|hash(?:es|ed)?|auth\w*|based|file|prompt|please|there|that|this|your|what|same)[.,!?)]*",
    re.IGNORECASE,
)
_PHONE_REGIONS = ("US", "GB", "DE", "RU", "TR")

Spans = Iterator[tuple[int, int]]


def redact(text: str) -> tuple[str, Counter[str]]:
    """The text with its secrets masked, and how many of each kind."""
    counts: Counter[str] = Counter()
    for kind, find in _RULES:
        spans = list(find(text))
        for start, end in reversed(spans):
            text = f"{text[:start]}[{kind}]{text[end:]}"
        if spans:
            counts[kind] += len(spans)
    return text, counts


def _matches(pattern: re.Pattern[str]) -> Callable[[str], Spans]:
    return lambda text: (match.span() for match in pattern.finditer(text))


def _secrets(pattern: re.Pattern[str]) -> Callable[[str], Spans]:
    def find(text: str) -> Spans:
        for match in pattern.finditer(text):
            secret = match["secret"]
            if secret.startswith("[") or _ORDINARY_WORDS.fullmatch(secret):
                continue
            # "the password is different": after a form of 'is' a plain word is most likely no secret.
            if secret.strip(".,!?").isalpha() and re.search(r"[:=–—-]\s*$", match["head"]) is None:
                continue
            yield match.span("secret")

    return find


def _cards(text: str) -> Spans:
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        # 17 to 19 digits in one piece are far more often an id than a card.
        plausible = digits[0] in "23456" and len(set(digits)) > 1 and (len(digits) <= 16 or match[0] != digits)
        if plausible and luhn.is_valid(digits):
            yield match.span()


def _ibans(text: str) -> Spans:
    for match in _IBAN.finditer(text):
        # The pattern may run on into following capitals: the longest valid beginning is the number.
        for end in range(len(match[0]), 14, -1):
            candidate = match[0][:end]
            if not candidate.endswith(" ") and iban.is_valid(candidate):
                yield match.start(), match.start() + end
                break


def _phones(text: str) -> Spans:
    """International numbers anywhere; national ones only where they are written like a phone number."""
    if not _MAYBE_PHONE.search(text):
        return
    spans: dict[tuple[int, int], None] = {}
    for region in (None, *_PHONE_REGIONS):
        leniency = phonenumbers.Leniency.VALID if region else phonenumbers.Leniency.POSSIBLE
        for match in phonenumbers.PhoneNumberMatcher(text, region, leniency=leniency):
            if _is_written_as_phone(text, match.start, match.end, match.raw_string):
                spans[match.start, match.end] = None
    last = -1
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if start >= last:
            yield start, end
            last = end


def _is_written_as_phone(text: str, start: int, end: int, raw: str) -> bool:
    before, after = text[max(0, start - 1) : start], text[end : end + 1]
    if re.match(r"[\w#/=@$€£.:_-]", before) or re.match(r"[\w/=@%€_-]", after):
        return False
    if raw.startswith("+"):
        return True
    digits = re.sub(r"\D", "", raw)
    if _DATE_LIKE.fullmatch(raw) or "." in raw or "/" in raw:
        return False
    grouped = _PHONE_GROUPED.search(raw) is not None and max(map(len, re.findall(r"\d+", raw))) <= 8
    return (grouped and len(digits) >= 9) or (digits.startswith("0") and 10 <= len(digits) <= 12)


_RULES: tuple[tuple[str, Callable[[str], Spans]], ...] = (
    ("key", _matches(_PRIVATE_KEY)),
    ("key", _matches(_KEYS)),
    ("password", _matches(_URL_LOGIN)),
    ("password", _secrets(_PASSWORD)),
    ("key", _secrets(_API_KEY)),
    ("code", _secrets(_CODE)),
    ("email", _matches(_EMAIL)),
    ("iban", _ibans),
    ("card", _cards),
    ("phone", _phones),
)
