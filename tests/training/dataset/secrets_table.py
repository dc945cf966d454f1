"""Secrets to be caught and look-alikes to be left alone, by kind: the precision table is counted from here.

    python -m tests.training.dataset.secrets_table

prints it: these texts, and thousands drawn by a seed (generated_secrets.py), which no rule was written against.

Everything is invented; keys and tokens are put together so that no scanner takes them for real ones.
"""

import sys

from tests.training.dataset.generated_secrets import LOOK_ALIKES, SECRETS, samples
from training.dataset.redact import redact

CAUGHT: dict[str, tuple[tuple[str, str], ...]] = {
    "email": (
        ("mail me at jane.doe+tg@example.co.uk, ok?", "mail me at [email], ok?"),
        ("почта: ivan_petrov@пример.рф", "почта: [email]"),
        ("<a.b@c-d.org>", "<[email]>"),
        ("write to tom [at] example [dot] org", "write to [email]"),
        ("tom(at)example.org works", "[email] works"),
        ("it is anna at posteo dot de", "it is [email]"),
        ("mailto:x.y@example.com", "mailto:[email]"),
        ("a@example.com;b@example.com", "[email];[email]"),
    ),
    "phone": (
        ("call +1 (202) 555-0143", "call [phone]"),
        ("+49 171 1234567", "[phone]"),
        ("+49 (0)30 901820", "[phone]"),
        ("+79161234567", "[phone]"),
        ("мой номер 8 916 123-45-67", "мой номер [phone]"),
        ("89161234567", "[phone]"),
        ("8(916)1234567 наберёшь?", "[phone] наберёшь?"),
        ("0532 123 45 67", "[phone]"),
        ("ara beni 532 123 45 67", "ara beni [phone]"),
        ("0171/1234567", "[phone]"),
        ("01711234567", "[phone]"),
        ("07911 123456", "[phone]"),
        ("06 12 34 56 78", "[phone]"),
        ("06.12.34.56.78", "[phone]"),
        ("(415) 555-2671", "[phone]"),
        ("415-555-2671", "[phone]"),
        ("415 555 2671", "[phone]"),
        ("1-800-555-0199", "[phone]"),
        ("text me 5550143", "text me [phone]"),
        ("my number is 512 345 678", "my number is [phone]"),
        ("Handynummer: 171 1234567", "Handynummer: [phone]"),
        ("https://wa.me/491711234567", "https://wa.me/[phone]"),
        ("t.me/+491711234567", "t.me/+[phone]"),
        ("00491711234567 is my phone", "[phone] is my phone"),
        ("+1 555 0100", "[phone]"),
        ("+44 20 7946 0958 / +44 20 7946 0959", "[phone] / [phone]"),
    ),
    "card": (
        ("4111 1111 1111 1111", "[card]"),
        ("4111111111111111 12/29", "[card] 12/29"),
        ("5555-5555-5555-4444", "[card]"),
        ("3782 822463 10005", "[card]"),
        ("карта 2200 7007 0000 0002", "карта [card]"),
        ("6011000990139424", "[card]"),
        ("here: 3530111333300000.", "here: [card]."),
    ),
    "iban": (
        ("DE89 3704 0044 0532 0130 00", "[iban]"),
        ("DE89370400440532013000", "[iban]"),
        ("IBAN: GB29NWBK60161331926819, thanks", "IBAN: [iban], thanks"),
        ("TR33 0006 1005 1978 6457 8413 26 ok", "[iban] ok"),
        ("fr14 2004 1010 0505 0001 3m02 606", "[iban]"),
    ),
    "wallet": (
        ("btc 1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", "btc [wallet]"),
        ("bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "[wallet]"),
        ("0x52908400098527886E0F7030069857D2E4169EE7 pls", "[wallet] pls"),
    ),
    "key": (
        ("123456789:AAF" + "x1Y2z3W4v5U6t7S8r9Q0p1O2n3M4l5K6", "[key]"),
        (
            "https://api.telegram.org/bot123456789:AAF" + "x1Y2z3W4v5U6t7S8r9Q0p1O2n3M4l5K6/getMe",
            "https://api.telegram.org/bot[key]/getMe",
        ),
        ("sk-" + "proj-abcDEF123456ghiJKL789", "[key]"),
        ("sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc", "[key]"),
        ("gh" + "p_16C7e42F292c6912E7710c838347Ae178B4a", "[key]"),
        ("AKIA" + "IOSFODNN7EXAMPLE", "[key]"),
        ("AIza" + "SyA1234567890abcdefghijklmnopqrstuv", "[key]"),
        ("xoxb-" + "123456789012-abcdefGHIJKL", "[key]"),
        ("hf_" + "abcdefghijklmnopqrstuvwx12", "[key]"),
        ("eyJ" + "hbGciOiJIUzI1.eyJ" + "zdWIiOiIxMjM0NTY.SflKxwRJSMeKKF2QT4", "[key]"),
        ("api_key = 9f8e7d6c5b4a39281706", "api_key = [key]"),
        ("api_hash: 0123456789abcdef0123456789abcdef", "api_hash: [key]"),
        ("Authorization: Bearer abc.DEF-123456789", "Authorization: Bearer [key]"),
        ("my token is Zx81Kq09Lm42Tt", "my token is [key]"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPx" + "RfiCYEXAMPLEKEY", "aws_secret_access_key = [key]"),
        ("STRIPE_SECRET=1a2b3c4d5e6f7a8b", "STRIPE_SECRET=[key]"),
        ("токен: Zx81Kq09Lm42Tt", "токен: [key]"),
        ("https://x.org/feed?token=a1b2c3d4e5&x=1", "https://x.org/feed?token=[key]&x=1"),
        ("https://zoom.us/j/94871234567?pwd=QWxhZGRpbg", "https://zoom.us/j/94871234567?pwd=[key]"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----", "[key]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEow cut off here", "[key]"),
        (
            "seed phrase: witch collapse practice feed shame open despair creek road again ice least",
            "seed phrase: [key]",
        ),
        ("q7Rk2Lw9Xz4Bn6Tc1Vd8Mf3Hj5Gs0PaYe", "[key]"),
    ),
    "password": (
        ("password: hunter2", "password: [password]"),
        ("Password is Tr0ub4dor&3.", "Password is [password]."),
        ("the wifi password is blue-Sky77", "the wifi password is [password]"),
        ("pw = s3cr3t!", "pw = [password]!"),
        ("user: bob pass: qwerty12", "user: bob pass: [password]"),
        ("password hunter2", "password [password]"),
        ("password for the router: open sesame", "password for the router: [password] sesame"),
        ('password: "correct horse battery"', "password: [password]"),
        ("wifi key: 12345678", "wifi key: [password]"),
        ("пароль: солнышко1", "пароль: [password]"),
        ("Пароль от вайфая - qwerty99", "Пароль от вайфая - [password]"),
        ("пароль от почты Vesna2024!", "пароль от почты [password]!"),
        ("Passwort: Sommer!2024", "Passwort: [password]"),
        ("das WLAN-Passwort ist Kaffee77", "das WLAN-Passwort ist [password]"),
        ("şifre: kedi1234", "şifre: [password]"),
        ("şifrem kedi1234", "şifrem [password]"),
        ("wifi şifresi: deniz1990", "wifi şifresi: [password]"),
        ("mot de passe : soleil33", "mot de passe : [password]"),
        ("contraseña: gatito55", "contraseña: [password]"),
        ("password:\nhunter2", "password:\n[password]"),
        ("postgres://bob:s3cret@db.local/x", "postgres://[password]@db.local/x"),
        ("pin 4821", "pin [password]"),
        ("пин-код 4821", "пин-код [password]"),
        ("PIN: 0007", "PIN: [password]"),
        ("the password's hunter2!", "the password's [password]!"),
        ("password is 'correct horse'", "password is [password]"),
        ("senha do wifi: casa1234", "senha do wifi: [password]"),
        ("wachtwoord: zomer22", "wachtwoord: [password]"),
        ("lösenord: sommar2024", "lösenord: [password]"),
        ("heslo: kocka123", "heslo: [password]"),
        ("парола: котка12", "парола: [password]"),
        ("密码: abc12345", "密码: [password]"),
        ("密码是abc12345", "密码是[password]"),
        ("パスワード：sakura99", "パスワード：[password]"),
        ("비밀번호: abc1234", "비밀번호: [password]"),
        ("كلمة المرور: abc12345", "كلمة المرور: [password]"),
        ("סיסמה: abc12345", "סיסמה: [password]"),
    ),
    "code": (
        ("Login code: 12345. Do not give it", "Login code: [code]. Do not give it"),
        ("Your verification code is 482 913", "Your verification code is [code]"),
        ("G-482913 is… security code: G-482913", "G-482913 is… security code: [code]"),
        ("код 48213", "код [code]"),
        ("Код подтверждения: 4821", "Код подтверждения: [code]"),
        ("код от домофона 2580", "код от домофона [code]"),
        ("door code 2580#", "door code [code]#"),
        ("the code is 4821", "the code is [code]"),
        ("doğrulama kodu: 482913", "doğrulama kodu: [code]"),
        ("Bestätigungscode: 482913", "Bestätigungscode: [code]"),
        ("cvv 123", "cvv [code]"),
        ("cvc: 123", "cvc: [code]"),
        ("482913 is your verification code", "[code] is your verification code"),
        ("G-482913 is your Google verification code", "[code] is your Google verification code"),
        ("Use 482913 to verify your account", "Use [code] to verify your account"),
    ),
    "id": (
        ("passport no: X1234567", "passport no: [id]"),
        ("паспорт 4510 123456", "паспорт [id]"),
        ("SSN 123-45-6789", "SSN [id]"),
        ("ИНН 7707083893", "ИНН [id]"),
    ),
}

LEFT_ALONE: dict[str, tuple[str, ...]] = {
    "order and tracking numbers": (
        "order 4485123", "order number: 0171 1234567", "заказ № 89161234567", "Bestellnummer 0171 1234567",
        "sipariş no 0532 123 45 67", "tracking 1Z999AA10123456784", "ticket #4815162342", "invoice 2024-000123",
        "IMEI 356938035643809", "order id 4111111111111111", "it was order #0012345678",
    ),
    "years, dates, times": (
        "in 2019 or 2020-2021", "2024-03-05", "05.03.2024", "5/3/24", "2024-03-05 14:30:00", "20240305", "1709647200",
        "1709647200123", "14:30-16:00", "from 01.02.2024 to 03.04.2024", "01.02.24 10:30", "2009-07-01 16:30:03",
        "0900-1030", "05 03 2024",
    ),
    "versions, addresses of the network": (
        "python 3.11.4", "v1.10.0-rc.2", "kernel 5.15.0-101", "192.168.100.200", "10.0.0.1:8080", "127.0.0.1/32",
        "2001:db8::ff00:42:8329", "aa:bb:cc:dd:ee:ff", "1.2.3.4 5.6.7.8", "react@18.2.0", "node 20.11.1 npm 10.2.4",
    ),
    "prices and amounts": (
        "$1,234,567.89", "1 234 567 890 ₽", "10 000 000", "€ 12.500,00", "12345678 TL", "1.500.000.000", "99.99 USD",
        "it costs 100500", "+100500", "+1", "+1 2024-03-05", "50 000 - 60 000",
    ),
    "issues, commits, ids": (
        "DS-1234", "#12345", "see PR 1234567", "commit 9fceb02d0ae598e95dc970b74767f19372d61af8", "9fceb02",
        "550e8400-e29b-41d4-a716-446655440000", "d41d8cd98f00b204e9800998ecf8427e", "handle 123456789/12345",
        "https://example.org/item/4111111111111111", "https://youtu.be/dQw4w9WgXcQ?t=1234567890",
        "https://example.org/browse/DS-228?key=DS-228", "t.me/durov/123456789", "id 123456789",
        "https://docs.example.org/d/1A2b3C4d5E6f7G8h9I0jKlMnOpQrStUvWxYz12345", "0x7fffd3a2b8c0",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ),
    "books, places, mathematics": (
        "ISBN 978-0-306-40615-7", "ISBN 0306406152", "ISBN 0-306-40615-2", "41.0082, 28.9784", "55.7558 37.6173",
        "3.14159265358979", "1234567890", "0.5 0.25 0.125", "1+1234567=1234568", "1 2 3 4 5 6 7 8 9 10",
        "pi 3.1415926535",
    ),
    "words about secrets": (
        "I forgot my password", "password: required", "the password is wrong", "change your password please",
        "password reset", "пароль неверный", "я забыл пароль", "Passwort vergessen?", "şifre yanlış",
        "password protected", "2025 is your year", "the password's wrong", "密码错误", "primary_key = user1234567890",
        "use 1234 words to describe it",
        "what is the password?", "password = ***", "password: <your password>", "passwords are hashed with sha256",
        "password md5", "the token expired", "api key needed", "a token of love", "secret santa 2024",
        "error code: 500123", "exit code 1", "zip code 12345", "source code 2015", "the pin fell off", "opinion: good",
        "status code 4040", "код ошибки 500", "http code: 404", "pass the salt", "I'll pass - thanks",
        "password: still the same as before", "I changed my password - finally",
        "looking at each dot saying", "pass: no", "pin board", "code review",
    ),
    "addresses that are no mailbox": (
        "git@github.com:owner/repo.git", "@username", "hey @someone.else", "look at github.com", "meet at noon",
        "user@localhost", "5 @ 10.50",
    ),
}  # fmt: skip


def masked_as(text: str) -> list[str]:
    """The kinds of secrets that masking finds in a text."""
    return sorted(redact(text)[1].elements())


def table(drawn: int = 2000) -> list[str]:
    """Recall of every kind of secret, precision on every kind of look-alike."""
    lines = [f"{'secrets':<36}{'written':>12}{'drawn':>16}   recall"]
    for kind, make in SECRETS.items():
        name = kind.partition(",")[0]
        written = [redact(text)[0] == masked for text, masked in CAUGHT[name]]
        found = [masked_as(text) == [name] for text in samples(make, drawn)]
        lines.append(_row(kind, written, found))
    written = [redact(text)[0] == masked for text, masked in CAUGHT["id"]]
    lines.append(_row("id (passport, SSN, tax number)", written, []))
    lines += ["", f"{'look-alikes left alone':<36}{'written':>12}{'drawn':>16}   kept"]
    lines += [_row(kind, [redact(text)[0] == text for text in texts], []) for kind, texts in LEFT_ALONE.items()]
    for kind, make in LOOK_ALIKES.items():
        lines.append(_row(kind, [], [not masked_as(text) for text in samples(make, drawn)]))
    return lines


def _row(kind: str, written: list[bool], drawn: list[bool]) -> str:
    of_each = [f"{sum(found)}/{len(found)}" if found else "" for found in (written, drawn)]
    share = sum(written + drawn) / len(written + drawn)
    return f"{kind:<36}{of_each[0]:>12}{of_each[1]:>16}   {share:.1%}"


if __name__ == "__main__":
    sys.stdout.write("\n".join(table()) + "\n")
