//! CSV as in RFC 4180, safe to open in a spreadsheet.

/// Characters with which a spreadsheet begins a formula, and those that it skips before one; the full-width forms are
/// read as their narrow ones by some.
const LEADS: [char; 11] = [
    '=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}',
];

/// The cell as it stands in the file: one that a spreadsheet might take for a formula gets an apostrophe in front.
///
/// So does one that looks as if it had got one already. To undo it, take one apostrophe from every cell that is
/// apostrophes followed by such a character.
pub(super) fn escape(cell: &str) -> String {
    if cell.trim_start_matches('\'').starts_with(LEADS) {
        format!("'{cell}")
    } else {
        cell.to_owned()
    }
}

/// Rows as bytes of CSV, escaped and quoted, lines ended by CR LF.
pub(super) fn rows<'a, R>(rows: impl IntoIterator<Item = R>) -> Result<Vec<u8>, csv::Error>
where
    R: IntoIterator<Item = &'a str>,
{
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    for row in rows {
        writer.write_record(row.into_iter().map(escape))?;
    }
    writer.into_inner().map_err(|fault| fault.into_error().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an import does.
    fn unescape(cell: &str) -> &str {
        if cell.trim_start_matches('\'').starts_with(LEADS) {
            cell.strip_prefix('\'').unwrap_or(cell)
        } else {
            cell
        }
    }

    #[test]
    fn what_might_be_a_formula_gets_an_apostrophe() {
        for cell in [
            "=1+1",
            "+49 30",
            "-1",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "\n=1",
            "\u{ff1d}1",
            "\u{ff0b}1",
            "\u{ff0d}1",
            "\u{ff20}x",
            "'=1",
        ] {
            assert_eq!(escape(cell), format!("'{cell}"), "{cell:?}");
        }
    }

    #[test]
    fn ordinary_text_stays_as_it_is() {
        for cell in [
            "",
            "Ada",
            "a=b",
            "O'Hara",
            "'quoted'",
            "1-2",
            "ada@example.com",
            "\u{4f1a}\u{793e}",
        ] {
            assert_eq!(escape(cell), cell, "{cell:?}");
        }
    }

    #[test]
    fn an_import_gets_back_what_was_exported() {
        for cell in ["=1", "'=1", "''=1", "'", "''", "'a", "", "=", "-", "'\u{ff1d}"] {
            assert_eq!(unescape(&escape(cell)), cell, "{cell:?}");
        }
    }

    #[test]
    fn quotes_commas_and_line_breaks_are_quoted_as_in_rfc_4180() {
        let bytes = rows([["a", "b"], ["say \"hi\"", "x,y"], ["two\r\nlines", "=1"]]).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text, "a,b\r\n\"say \"\"hi\"\"\",\"x,y\"\r\n\"two\r\nlines\",'=1\r\n");
    }
}
