//! The fields of a span, as the JSON log has them.
//!
//! Every call has a span and few of them log a line, so that what a span costs counts and what a line costs does not.
//! `JsonFields` of tracing-subscriber puts the values into a map first, and reads and writes all of them again for each that comes
//! later. Here they are written one behind the other. What is recorded twice stands there twice, which RFC 8259 leaves open
//! (section 4); whoever writes lines reads it with `serde_json`, which takes the last, so that a line has it once.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FormatFields, FormattedFields};

/// Room for the fields of a call's span, in bytes: up to 100 for the name of an RPC, 64 for a request id, and their names.
const TYPICAL_BYTES: usize = 256;

/// Writes fields as a JSON object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields;

/// The members of an object whose end is still open.
struct Members<'a> {
    text: &'a mut String,
}

/// The inside of a JSON string.
struct Escaped<'a> {
    text: &'a mut String,
}

// === impl Fields ===

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut text = String::with_capacity(TYPICAL_BYTES);
        text.push('{');
        fields.record(&mut Members { text: &mut text });
        text.push('}');
        writer.write_str(&text)
    }

    fn add_fields(&self, current: &'writer mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        let text = &mut current.fields;
        if text.pop().is_none() {
            text.push('{');
        }
        fields.record(&mut Members { text });
        text.push('}');
        Ok(())
    }
}

// === impl Members ===

impl Members<'_> {
    fn name(&mut self, field: &Field) {
        if !self.text.ends_with('{') {
            self.text.push(',');
        }
        self.string(|escaped| escaped.write_str(field.name()));
        self.text.push(':');
    }

    /// A value whose text is JSON as it is.
    fn plain(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        self.name(field);
        let _a_string_takes_all = self.text.write_fmt(value);
    }

    fn string(&mut self, write: impl FnOnce(&mut Escaped<'_>) -> fmt::Result) {
        self.text.push('"');
        // A type that cannot be shown has shown a part of itself, which is a string as well.
        let _shown_in_part = write(&mut Escaped { text: self.text });
        self.text.push('"');
    }
}

impl Visit for Members<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            // Unlike `Display` it tells 1.0 from 1.
            self.plain(field, format_args!("{value:?}"));
        } else {
            self.plain(field, format_args!("null"));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, format_args!("{value}"));
    }

    fn record_bytes(&mut self, field: &Field, value: &[u8]) {
        self.plain(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.name(field);
        self.string(|escaped| escaped.write_str(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.name(field);
        self.string(|escaped| write!(escaped, "{value:?}"));
    }
}

// === impl Escaped ===

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Nearly every text. What must be escaped is one byte in UTF-8, and no other character has that byte.
        if !text.bytes().any(|byte| must_be_escaped(byte.into())) {
            self.text.push_str(text);
            return Ok(());
        }
        for part in text.split_inclusive(must_be_escaped) {
            match part.strip_suffix(must_be_escaped) {
                None => self.text.push_str(part),
                Some(before) => {
                    self.text.push_str(before);
                    let escaped = part.chars().next_back().map_or(0, u32::from);
                    write!(self.text, "\\u{escaped:04x}")?;
                }
            }
        }
        Ok(())
    }
}

/// What may not stand in a string as it is (RFC 8259, section 7).
fn must_be_escaped(character: char) -> bool {
    matches!(character, '"' | '\\' | '\0'..='\u{1f}')
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing::field::Empty;
    use tracing::{Span, info, info_span};
    use tracing_subscriber::fmt::format::JsonFields;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::guard::json_layer;

    /// What is logged with these fields: of each line what stands after the time.
    fn logged(fields: impl for<'writer> FormatFields<'writer> + Send + Sync + 'static, work: impl Fn()) -> Vec<String> {
        let sink = Sink::default();
        let layer = json_layer(fields).with_writer({
            let sink = sink.clone();
            move || sink.clone()
        });
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        let text = String::from_utf8(sink.written.lock().unwrap().clone()).unwrap();
        let after_time = |line: &str| line.split_once("\"level\"").unwrap().1.to_owned();
        text.lines().map(after_time).collect()
    }

    /// The fields of the span in which each line is logged. They are those that tracing-subscriber's own formatter gives.
    fn spans(work: impl Fn()) -> Vec<String> {
        let lines = logged(Fields, &work);
        assert_eq!(lines, logged(JsonFields::new(), &work));
        let span = |line: &String| line.split_once("\"span\":").unwrap().1.trim_end_matches('}').to_owned();
        lines.iter().map(span).collect()
    }

    #[derive(Clone, Default)]
    struct Sink {
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Shows a part of itself and fails.
    struct Unshown;

    impl fmt::Debug for Unshown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("half \"shown")?;
            Err(fmt::Error)
        }
    }

    #[test]
    fn numbers_and_truths_are_values_and_not_text() {
        let fields = spans(|| {
            let span = info_span!(
                "s",
                least = i64::MIN,
                most = u64::MAX,
                yes = true,
                half = -0.5,
                one = 1.0,
                large = 1e300,
                bytes = &b"\x00\xff"[..]
            );
            span.in_scope(|| info!("line"));
        });
        let expected = "{\"bytes\":[0,255],\"half\":-0.5,\"large\":1e+300,\"least\":-9223372036854775808,\
            \"most\":18446744073709551615,\"one\":1.0,\"yes\":true,\"name\":\"s\"";
        assert_eq!(fields, [expected]);
    }

    #[test]
    fn what_is_no_number_is_null() {
        let fields = spans(|| {
            let span = info_span!("s", infinite = f64::INFINITY, undefined = f64::NAN);
            span.in_scope(|| info!("line"));
        });
        assert_eq!(fields, ["{\"infinite\":null,\"undefined\":null,\"name\":\"s\""]);
    }

    #[test]
    fn everything_else_is_text() {
        let fields = spans(|| {
            let fault = io::Error::other("no disk");
            let fault: &(dyn Error + 'static) = &fault;
            let (shown, told) = (Some("x"), format_args!("{}-{}", 1, 2));
            let span = info_span!(
                "s",
                debug = ?shown,
                display = %told,
                error = fault,
                small = i128::MIN,
                text = "text",
                wide = u128::MAX
            );
            span.in_scope(|| info!("line"));
        });
        let expected = "{\"debug\":\"Some(\\\"x\\\")\",\"display\":\"1-2\",\"error\":\"no disk\",\
            \"small\":\"-170141183460469231731687303715884105728\",\"text\":\"text\",\
            \"wide\":\"340282366920938463463374607431768211455\",\"name\":\"s\"";
        assert_eq!(fields, [expected]);
    }

    #[test]
    fn nothing_that_a_text_holds_ends_it_or_the_line() {
        let text = "\"},\"x\":{\\u\\\u{0}\u{1b}[31m\r\n\t\u{8}\u{c}\u{1f}\u{7f}\u{85}\u{2028}é\u{1d11e}";
        let fields = spans(|| {
            let span = info_span!("s", a = text, b = %text, c = ?text, "d\"\\" = "", e = "\\");
            span.in_scope(|| info!("line"));
        });
        let escaped =
            "\\\"},\\\"x\\\":{\\\\u\\\\\\u0000\\u001b[31m\\r\\n\\t\\b\\f\\u001f\u{7f}\u{85}\u{2028}é\u{1d11e}";
        let [line] = &fields[..] else { panic!("{fields:?}") };
        assert!(
            line.starts_with(&format!("{{\"a\":\"{escaped}\",\"b\":\"{escaped}\",\"c\":\"")),
            "{line}"
        );
        assert!(
            line.ends_with(",\"d\\\"\\\\\":\"\",\"e\":\"\\\\\",\"name\":\"s\""),
            "{line}"
        );
    }

    #[test]
    fn what_is_recorded_later_is_added_and_the_last_of_a_name_counts() {
        let fields = spans(|| {
            let span = info_span!("s", tries = 1, late = Empty, never = Empty);
            span.in_scope(|| info!("line"));
            span.record("late", "{").record("tries", 2);
            span.in_scope(|| info!("line"));
            span.record("late", "\"}").record("tries", 3).record("unknown", 4);
            span.in_scope(|| info!("line"));
        });
        let expected = [
            "{\"tries\":1,\"name\":\"s\"",
            "{\"late\":\"{\",\"tries\":2,\"name\":\"s\"",
            "{\"late\":\"\\\"}\",\"tries\":3,\"name\":\"s\"",
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn a_span_may_begin_without_fields() {
        let fields = spans(|| {
            let span = info_span!("s", late = Empty);
            span.in_scope(|| info!("line"));
            span.record("late", true);
            span.in_scope(|| info!("line"));
        });
        assert_eq!(fields, ["{\"name\":\"s\"", "{\"late\":true,\"name\":\"s\""]);
    }

    #[test]
    fn a_line_has_the_fields_of_its_own_span() {
        let fields = spans(|| {
            let outer = info_span!("outer", a = 1, b = Empty).entered();
            info_span!("inner", a = 2).in_scope(|| {
                Span::current().record("a", 3);
                outer.record("b", 4);
                info!("line");
                info!(parent: outer.id(), "line");
            });
            info!("line");
        });
        let outer = "{\"a\":1,\"b\":4,\"name\":\"outer\"";
        assert_eq!(fields, ["{\"a\":3,\"name\":\"inner\"", outer, outer]);
    }

    #[test]
    fn what_cannot_be_shown_spoils_no_line() {
        let lines = logged(Fields, || {
            let span = info_span!("s", a = ?Unshown, b = 1);
            span.in_scope(|| info!("line"));
        });
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert!(
            line.ends_with("{\"a\":\"half \\\"shown\",\"b\":1,\"name\":\"s\"}}"),
            "{line}"
        );
    }
}
