//! Addresses of every awkward kind, and what becomes of them. Whoever meets another adds a line.
//!
//! The worker's tests include this file too: what is taken here must be an address to the library that sends mails.

/// What becomes of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Something can begin at it.
    Taken,
    /// It is another spelling, or none that a mail reaches, and read where it is there already.
    Kept,
    /// It is none.
    Refused,
}

/// A line of the table.
pub(crate) struct Row {
    pub(crate) verdict: Verdict,
    pub(crate) address: String,
    pub(crate) why: &'static str,
}

const TAKEN: &[(&str, &str)] = &[
    ("ada@example.com", "as most are"),
    ("ADA@Example.COM", "capitals"),
    ("a@b.cd", "short"),
    ("0@example.com", "a digit"),
    ("a.b.c+tag@sub.example.co.uk", "dots, a tag, subdomains"),
    ("o'hara@example.com", "an apostrophe"),
    ("!#$%&'*+-/=?^_`{|}~@example.com", "every sign that an atom may have"),
    ("-@example.com", "a hyphen alone"),
    ("a--b@example.com", "hyphens in a row"),
    ("ada@3com.example", "a label that begins with a digit"),
    ("ada@1.example", "a label of digits, not at the end"),
    ("ada@a-b.example", "a hyphen within a label"),
    ("ada@ab--cd.example", "hyphens where an encoded label has them"),
    ("\"a@b\"@example.com", "an at sign in quotation marks"),
    ("\"a..b\"@example.com", "two dots in quotation marks"),
    ("\".a\"@example.com", "a dot first, in quotation marks"),
    ("\"a,b:c;d(e)\"@example.com", "other signs in quotation marks"),
    ("\"a\\\"b\"@example.com", "a quotation mark in quotation marks"),
    ("\"a\\\\b\"@example.com", "a backslash in quotation marks"),
    ("\u{fc}ber@example.com", "a letter beyond ASCII"),
    ("\u{dc}BER@example.com", "its capital"),
    ("\u{7528}\u{6237}@\u{4f8b}\u{5b50}.\u{5e7f}\u{544a}", "Chinese"),
    (
        "\u{438}\u{43c}\u{44f}@\u{43f}\u{440}\u{438}\u{43c}\u{435}\u{440}.\u{440}\u{444}",
        "Cyrillic",
    ),
    (
        "\u{e19}\u{e33}@example.com",
        "Thai, with a vowel that compatibility would take apart",
    ),
    ("ada@b\u{fc}cher.example", "an international domain"),
    ("ada@B\u{dc}CHER.EXAMPLE", "the same in capitals"),
    ("ada@stra\u{df}e.example", "a letter that IDNA once mapped"),
];

const KEPT: &[(&str, &str)] = &[
    ("ada@xn--bcher-kva.example", "an international domain as DNS has it"),
    ("ada@XN--BCHER-KVA.EXAMPLE", "the same in capitals"),
    ("ada@xn--a.example", "what looks like an encoded label and is none"),
    ("\"ada\"@example.com", "quotation marks that nothing needs"),
    ("\"a.b\"@example.com", "quotation marks around dots in their places"),
    ("\"a\\da\"@example.com", "a backslash before a letter"),
    ("\"a\\@b\"@example.com", "a backslash that nothing needs"),
    ("\u{ff41}da@example.com", "a letter in full width"),
    ("ada@\u{ff45}xample.com", "the same in the domain"),
    ("\u{ff71}@example.com", "a letter in half width"),
    ("\u{3b1}\u{345}@example.com", "a combining mark that counts as a letter"),
    ("a\u{3164}@example.com", "a letter that is not seen"),
    ("ada@127.0.0.1", "an IP address without brackets"),
    ("ada@example.123", "a number at the end of the domain"),
    ("ada@ex_ample.com", "an underscore in the domain"),
    ("ada@ex/ample.com", "a slash in the domain"),
    ("ada@ex'ample.com", "an apostrophe in the domain"),
];

const REFUSED: &[(&str, &str)] = &[
    ("", "nothing"),
    ("@", "an at sign alone"),
    ("ada", "no at sign"),
    ("@example.com", "no local part"),
    ("ada@", "no domain"),
    ("ada@@example.com", "two at signs"),
    ("ada@b@example.com", "an at sign outside quotation marks"),
    (".ada@example.com", "a dot first"),
    ("ada.@example.com", "a dot last"),
    ("a..da@example.com", "two dots"),
    ("\"\"@example.com", "nothing in quotation marks"),
    ("\"@example.com", "one quotation mark"),
    ("\"ada@example.com", "quotation marks that do not end"),
    ("\"a\"b@example.com", "quotation marks around a part"),
    ("a\"b\"c@example.com", "quotation marks within"),
    ("\"a\"b\"@example.com", "a quotation mark that is not escaped"),
    ("\"a\\\"@example.com", "a backslash that escapes the end"),
    (
        "\"a b\"@example.com",
        "white space in quotation marks, which mails would fold",
    ),
    ("a b@example.com", "white space"),
    (" ada@example.com", "white space first"),
    ("ada@example.com ", "white space last"),
    ("ada @example.com", "white space before the at sign"),
    ("ada@ example.com", "white space behind it"),
    ("a\tb@example.com", "a tab"),
    ("a\u{a0}b@example.com", "white space that does not break"),
    ("a\u{3000}b@example.com", "white space in full width"),
    ("ada@example.com\r\nBcc: x@y.zz", "a header"),
    ("ada@example.com\r\nRCPT TO:<x@y.zz>", "a command"),
    ("a\r\nb@example.com", "the end of a line within"),
    ("ada@example.com\n", "the end of a line last"),
    ("ada@exam\rple.com", "half the end of a line"),
    ("\"a\r\n b\"@example.com", "a folded line"),
    ("a\u{2028}b@example.com", "a separator of lines"),
    ("a\0@example.com", "NUL"),
    ("ada@example.com\0", "NUL last"),
    ("\"a\\\0\"@example.com", "NUL, escaped"),
    ("a\u{7f}@example.com", "DEL"),
    ("a\u{85}@example.com", "a control character beyond ASCII"),
    ("a\u{200b}b@example.com", "a space of no width"),
    ("a\u{200d}b@example.com", "a joiner of no width"),
    ("\u{feff}ada@example.com", "a byte order mark"),
    ("a\u{ad}b@example.com", "a soft hyphen"),
    ("ada@exa\u{200b}mple.com", "a space of no width in the domain"),
    ("a\u{202e}b@example.com", "an override of the direction"),
    ("a\u{2067}b@example.com", "an isolate of another direction"),
    ("ada@\u{202e}moc.elpmaxe", "an override in the domain"),
    ("u\u{308}ber@example.com", "a combining mark that is no letter"),
    ("ada@bu\u{308}cher.example", "the same in the domain"),
    ("\u{308}@example.com", "a combining mark first"),
    ("ADM\u{130}N@example.com", "a letter that could pass for another"),
    ("\u{212a}im@example.com", "the sign of the kelvin"),
    ("ada(comment)@example.com", "a comment"),
    ("(comment)ada@example.com", "a comment first"),
    ("ada@example.com(comment)", "a comment last"),
    ("ada@(comment)example.com", "a comment in the domain"),
    ("Ada <ada@example.com>", "a name before it"),
    ("<ada@example.com>", "angle brackets"),
    ("ada@example.com,bob@example.com", "two addresses"),
    (
        "ada@example.com;bob@example.com",
        "two addresses, as some mail programs write them",
    ),
    ("@relay.example:ada@example.com", "a route"),
    ("mailto:ada@example.com", "a link"),
    ("ada%40example.com", "an escaped at sign"),
    ("ada@localhost", "a label alone"),
    ("ada@com", "a top-level domain alone"),
    ("ada@example.com.", "a dot at the end of the domain"),
    ("ada@.example.com", "a dot at its beginning"),
    ("ada@example..com", "two dots in it"),
    ("ada@.", "a dot alone"),
    ("ada@-example.com", "a hyphen first in a label"),
    ("ada@example-.com", "a hyphen last in a label"),
    ("ada@exam ple.com", "white space in the domain"),
    ("ada@example\u{3002}com", "an ideographic full stop"),
    ("ada@example\u{ff0e}com", "a full stop in full width"),
    ("\u{ff02}ada\u{ff02}@example.com", "quotation marks in full width"),
    ("ada\u{ff20}example.com", "an at sign in full width"),
    ("ada@[127.0.0.1]", "an IP address"),
    ("ada@[IPv6:2001:db8::1]", "an IP address of version 6"),
    ("ada@2001:db8::1", "the same without brackets"),
    ("ada@[example.com]", "a domain in brackets"),
    ("ada@[127.0.0.1", "a bracket that does not close"),
];

/// The table.
pub(crate) fn addresses() -> Vec<Row> {
    let written = [
        (Verdict::Taken, TAKEN),
        (Verdict::Kept, KEPT),
        (Verdict::Refused, REFUSED),
    ];
    let written = written.into_iter().flat_map(|(verdict, rows)| {
        rows.iter().map(move |&(address, why)| Row {
            verdict,
            address: address.to_owned(),
            why,
        })
    });
    written.chain(lengths()).collect()
}

/// What is as long as may be, and one more.
fn lengths() -> impl Iterator<Item = Row> {
    let letters = |count| "a".repeat(count);
    // 63 + 1 + 63 + 1 + `last` + 4 bytes.
    let domain = |last| format!("{}.{}.{}.com", letters(63), letters(63), letters(last));
    [
        (
            Verdict::Taken,
            format!("{}@example.com", letters(64)),
            "64 bytes before the at sign",
        ),
        (
            Verdict::Refused,
            format!("{}@example.com", letters(65)),
            "65 bytes before it",
        ),
        (
            Verdict::Taken,
            format!("{}@example.com", "\u{fc}".repeat(32)),
            "64 bytes in 32 letters",
        ),
        (
            Verdict::Refused,
            format!("{}@example.com", "\u{fc}".repeat(33)),
            "66 bytes in 33 letters",
        ),
        (
            Verdict::Taken,
            format!("ada@{}.com", letters(63)),
            "a label of 63 bytes",
        ),
        (
            Verdict::Refused,
            format!("ada@{}.com", letters(64)),
            "a label of 64 bytes",
        ),
        (Verdict::Taken, format!("{}@{}", letters(64), domain(57)), "254 bytes"),
        (Verdict::Refused, format!("{}@{}", letters(64), domain(58)), "255 bytes"),
        (
            Verdict::Refused,
            format!("{}@example.com", letters(100_000)),
            "very long",
        ),
        (Verdict::Refused, "@".repeat(254), "at signs alone"),
        (
            Verdict::Refused,
            format!("ada@{}com", "a.".repeat(200)),
            "very many labels",
        ),
    ]
    .into_iter()
    .map(|(verdict, address, why)| Row { verdict, address, why })
}
