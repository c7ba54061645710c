//! Texts that break what was not made for them: none of them, in any field, may be a fault of ours.

/// NUL and escapes, breaks of lines, changes of direction, what is not seen, quotes and patterns of SQL, letters in two forms,
/// words of other languages; and texts that are long, in bytes, in characters or in depth.
#[must_use]
pub fn texts() -> Vec<String> {
    let short = [
        "a\0b",
        "\u{1b}[31m",
        "a\r\nb",
        "a\u{2028}b",
        "\u{202e}evil",
        "\u{2066}",
        "'; DROP TABLE contacts; --",
        "\\",
        "%_%",
        "\u{200b}",
        "\u{200d}",
        "e\u{301}",
        "$1",
        "-1",
        "*",
        "null",
    ];
    let long = [
        "x".repeat(1 << 20),
        "\u{1f469}".repeat(1 << 18),
        "(".repeat(1_000),
        "NOT ".repeat(500),
    ];
    short.iter().map(|text| (*text).to_owned()).chain(long).collect()
}
