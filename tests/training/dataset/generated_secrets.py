"""Secrets and look-alikes by the thousand, drawn by a seed: what no rule was written against.

Each function makes one of its kind; `samples` puts it into a sentence.
"""

import base64
import string
import uuid
from collections.abc import Callable, Sequence
from random import Random

import phonenumbers
from stdnum import iban, isbn, luhn

Make = Callable[[Random], str]
ALNUM = string.ascii_letters + string.digits
CARRIERS = (
    "{}", "here: {}", "it is {} I think", "ok so {}\nthanks!", "{}, see you", "Hab ich: {}", "вот {} держи", "al: {}",
    "({})", "sent you {} yesterday?",
)  # fmt: skip
PHONE_WORDS = ("call me on {}", "my number is {}", "мой номер {}", "Handynummer: {}", "numaram {}", "text {} please")
REGIONS = ("US", "GB", "DE", "FR", "IT", "ES", "TR", "RU", "UA", "PL", "NL", "CH", "AT", "IN", "BR", "IL")
IBAN_LENGTHS = {"DE": 18, "NL": 0, "AT": 16, "PL": 24, "TR": 22, "CH": 17}
PASSWORD_HEADS = (
    "password: {}", "Password is {}", "the wifi password is {}", "pw: {}", "pass = {}", "пароль: {}",
    "пароль от вайфая {}", "Passwort: {}", "das WLAN-Passwort ist {}", "şifre: {}", "mot de passe : {}",
    "contraseña: {}", "wachtwoord: {}", "hasło: {}",
)  # fmt: skip
CODE_HEADS = (
    "Login code: {}", "your verification code is {}", "код {}", "Код подтверждения: {}", "door code {}",
    "Bestätigungscode: {}", "doğrulama kodu: {}", "security code: {}", "the code is {}", "OTP {}",
)  # fmt: skip
KEY_HEADS = ("api key: {}", "token = {}", "my token is {}", "client_secret={}", "Authorization: Bearer {}", "токен: {}")


def random_of(rng: Random, letters: str, length: int) -> str:
    """That many of these letters."""
    return "".join(rng.choices(letters, k=length))


def digits(rng: Random, length: int) -> str:
    """A number without a zero in front."""
    return rng.choice("123456789") + random_of(rng, string.digits, length - 1)


def email(rng: Random) -> str:
    """A mailbox."""
    user = rng.choice(("{a}.{b}", "{a}_{b}", "{a}{n}", "{a}+{b}", "{a}-{b}.{n}"))
    names = [random_of(rng, string.ascii_lowercase, rng.randint(2, 8)) for _ in range(3)]
    user = user.format(a=names[0], b=names[1], n=rng.randint(1, 1999))
    return f"{user}@{names[2]}.{rng.choice(('com', 'org', 'co.uk', 'de', 'com.tr', 'ru', 'museum'))}"


def phone(rng: Random, form: int) -> str:
    """A mobile number that could be dialled."""
    region = rng.choice(REGIONS)
    example = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
    national = str(example.national_number)
    while True:
        number = phonenumbers.PhoneNumber(example.country_code, int(national[:-5] + digits(rng, 5)))
        if phonenumbers.is_valid_number_for_region(number, region):
            return phonenumbers.format_number(number, form)


def international(rng: Random) -> str:
    """With a plus, in one piece or grouped."""
    formats = phonenumbers.PhoneNumberFormat
    return phone(rng, rng.choice((formats.E164, formats.INTERNATIONAL)))


def spoken_of(rng: Random) -> str:
    """As written at home, behind a word that says what it is."""
    return rng.choice(PHONE_WORDS).format(phone(rng, phonenumbers.PhoneNumberFormat.NATIONAL))


def card(rng: Random) -> str:
    """A payment card of the larger issuers."""
    prefix, length = rng.choice((("4", 16), ("51", 16), ("5425", 16), ("2200", 16), ("37", 15), ("6011", 16)))
    body = prefix + random_of(rng, string.digits, length - len(prefix) - 1)
    number = body + luhn.calc_check_digit(body)
    if length == 15:
        return rng.choice((number, f"{number[:4]} {number[4:10]} {number[10:]}"))
    return rng.choice(("", " ", "-")).join(number[start : start + 4] for start in range(0, 16, 4))


def bank(rng: Random) -> str:
    """An IBAN with right check digits."""
    country, length = rng.choice(list(IBAN_LENGTHS.items()))
    inside = random_of(rng, string.digits, length) if length else "ABNA" + random_of(rng, string.digits, 10)
    number = country + iban.calc_check_digits(f"{country}00{inside}") + inside
    return rng.choice((number, iban.format(number)))


def wallet(rng: Random) -> str:
    """Ethereum, TON."""
    if rng.random() < 0.5:
        return "0x" + random_of(rng, "0123456789abcdef", 40)
    return rng.choice(("UQ", "EQ")) + base64.urlsafe_b64encode(rng.randbytes(35)).decode()[:46]


def key(rng: Random) -> str:
    """A maker's token, or any behind a word that says so."""
    marked = (
        "gh" + "p_" + random_of(rng, ALNUM, 36),
        "sk-" + "proj-" + random_of(rng, ALNUM, 30) + "7",
        "AKIA" + random_of(rng, string.ascii_uppercase + string.digits, 16),
        "AIza" + random_of(rng, ALNUM, 35),
        "hf" + "_" + random_of(rng, ALNUM, 34),
        "xox" + "b-" + digits(rng, 12) + "-" + random_of(rng, ALNUM, 24),
        digits(rng, 10) + ":AA" + random_of(rng, ALNUM + "_-", 33),
    )
    if rng.random() < 0.7:
        return rng.choice(marked)
    return rng.choice(KEY_HEADS).format(random_of(rng, ALNUM, 20) + "a1")


def password(rng: Random) -> str:
    """A word that says password, and one that looks like it."""
    word = random_of(rng, string.ascii_lowercase, rng.randint(4, 8))
    token = rng.choice(
        (f"{word}{digits(rng, 2)}", f"{word.title()}-{digits(rng, 2)}", f"{word.title()}{digits(rng, 4)}!")
    )
    return rng.choice(PASSWORD_HEADS).format(token)


def code(rng: Random) -> str:
    """A one-time or a door code."""
    return rng.choice(CODE_HEADS).format(digits(rng, rng.choice((4, 5, 6))))


SECRETS: dict[str, Make] = {
    "email": email, "phone, international": international, "phone, spoken of": spoken_of, "card": card, "iban": bank,
    "wallet": wallet, "key": key, "password": password, "code": code,
}  # fmt: skip


def order(rng: Random) -> str:
    """What shops and carriers count by."""
    word = rng.choice(
        ("order", "order no.", "Bestellnummer", "заказ №", "sipariş no", "invoice", "ticket #", "tracking")
    )
    return f"{word} {digits(rng, rng.randint(5, 12))}"


def date_or_time(rng: Random) -> str:
    """Years, dates, hours, Unix time."""
    year, month, day = rng.randint(1950, 2040), rng.randint(1, 12), rng.randint(1, 28)
    hour, minute = rng.randint(0, 23), rng.randint(0, 59)
    return rng.choice(
        (
            f"{year}",
            f"{year}-{month:02}-{day:02}",
            f"{day:02}.{month:02}.{year}",
            f"{day}/{month}/{year % 100:02}",
            f"{year}-{year + 1}",
            f"{hour:02}:{minute:02}",
            f"{year}-{month:02}-{day:02} {hour:02}:{minute:02}:00",
            f"{year}{month:02}{day:02}",
            f"1{digits(rng, 9)}",
        )
    )


def version(rng: Random) -> str:
    """Software, and addresses of the network."""
    parts = [rng.randint(0, 40) for _ in range(4)]
    return rng.choice(
        (
            "{}.{}.{}",
            "v{}.{}",
            "{}.{}.{}-rc.{}",
            "python 3.{}.{}",
            "kernel 5.{}.0-{}",
            "192.168.{}.{}",
            "10.{}.{}.{}:8080",
        )
    ).format(*parts)


def price(rng: Random) -> str:
    """Money and amounts."""
    whole = rng.randint(1, 10**9)
    return rng.choice(
        (
            f"${whole:,}.99",
            f"{whole:,} ₽".replace(",", " "),
            f"€ {whole:,},00".replace(",", "."),
            f"{whole} TL",
            f"{whole % 10**5}k",
        )
    )


def place(rng: Random) -> str:
    """Coordinates."""
    return f"{rng.uniform(-90, 90):.{rng.randint(4, 7)}f}, {rng.uniform(-180, 180):.{rng.randint(4, 7)}f}"


def book(rng: Random) -> str:
    """ISBN of either length."""
    ten = random_of(rng, string.digits, 9)
    ten += next(last for last in "0123456789X" if isbn.is_valid(ten + last))
    return f"ISBN {rng.choice((ten, isbn.format(ten), isbn.to_isbn13(ten), isbn.format(isbn.to_isbn13(ten))))}"


def commit(rng: Random) -> str:
    """Hashes, UUIDs, issues."""
    hexadecimal = random_of(rng, "0123456789abcdef", 64)
    return rng.choice(
        (
            f"commit {hexadecimal[:40]}",
            hexadecimal[:7],
            hexadecimal,
            hexadecimal[:32],
            str(uuid.UUID(hexadecimal[:32])),
            f"#{rng.randint(1, 99999)}",
            f"PROJ-{rng.randint(1, 9999)}",
        )
    )


def link(rng: Random) -> str:
    """Ids in links."""
    return rng.choice(
        (
            f"https://example.org/item/{digits(rng, 12)}",
            f"https://youtu.be/{random_of(rng, ALNUM, 11)}?t={digits(rng, 3)}",
            f"t.me/channel/{digits(rng, 6)}",
            f"https://example.org/d/{random_of(rng, ALNUM, 44)}/edit",
        )
    )


def talk(rng: Random) -> str:
    """Words about secrets that hold none."""
    return rng.choice(
        (
            f"error code: {digits(rng, 5)}",
            f"exit code {rng.randint(1, 255)}",
            f"status code {rng.randint(100, 599)}",
            f"zip code {digits(rng, 5)}",
            "the password is wrong again",
            "password reset",
            "I forgot my password",
            "пароль неверный",
            "Passwort vergessen?",
            "şifre yanlış",
            f"secret santa {rng.randint(2000, 2040)}",
        )
    )


LOOK_ALIKES: dict[str, Make] = {
    "order and tracking numbers": order, "years, dates, times": date_or_time, "versions, network addresses": version,
    "prices": price, "coordinates": place, "ISBN": book, "commits, UUIDs, issues": commit, "ids in links": link,
    "words about secrets": talk,
}  # fmt: skip


def samples(make: Make, count: int, seed: int = 0) -> Sequence[str]:
    """That many texts of one kind, each in a sentence."""
    rng = Random(seed)
    return [rng.choice(CARRIERS).format(make(rng)) for _ in range(count)]
