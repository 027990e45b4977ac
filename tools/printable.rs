//! Text from data on its way to people: what a terminal would obey is shown instead.

use std::borrow::Cow;
use std::io::{self, Write};

/// Whether a terminal acts on the character, or lets it change the order of what stands around it.
fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` of several lines with everything escaped that a terminal would obey, but for line breaks.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n' && is_obeyed(c))
}

/// An id from a log in a line of its own: line breaks are escaped, too, and what is longer than people read is cut.
pub fn one_line(id: &str) -> Cow<'_, str> {
    match cut(id) {
        Cow::Borrowed(id) => escaped(id, is_obeyed),
        Cow::Owned(id) => Cow::Owned(escaped(&id, is_obeyed).into_owned()),
    }
}

/// `text` with all words cut that are longer than people read: ids from logs may have thousands of letters.
pub fn cut(text: &str) -> Cow<'_, str> {
    const LONGEST: usize = 1000;
    const LEFT: usize = 60;
    let is_long = |word: &str| word.len() > LONGEST && word.chars().count() > LONGEST;
    if !text.split_whitespace().any(is_long) {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    for word in text.split_inclusive(char::is_whitespace) {
        if is_long(word) {
            let letters = word.chars().count();
            out.extend(word.chars().take(LEFT));
            out += &format!("… ({letters} letters) …");
            out.extend(word.chars().skip(letters - LEFT));
        } else {
            out += word;
        }
    }
    Cow::Owned(out)
}

fn escaped(text: &str, escapes: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&escapes) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if escapes(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// Writes records of text to a terminal, its control characters but for line breaks and tabs shown as `?`.
pub struct ToTerminal<W>(pub W);

impl<W: Write> Write for ToTerminal<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Those of Unicode beyond ASCII are C2 80 to C2 9F, whose second byte is one nowhere but behind a lead byte; as
        // a lead byte may be the last of `bytes`, it is the lead byte that is replaced, and the rest is no character then.
        let is_obeyed = |b: &u8| (b.is_ascii_control() && !matches!(b, b'\n' | b'\t')) || *b == 0xc2;
        let shown: Vec<u8> = bytes.iter().map(|b| if is_obeyed(b) { b'?' } else { *b }).collect();
        self.0.write_all(&shown)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_thousands_of_letters_are_cut() {
        let id = format!("{}end", "é".repeat(10_000));
        let shown = cut(&id);
        assert!(shown.starts_with("éé") && shown.contains("(10003 letters)") && shown.ends_with("éend"), "{shown}");
        assert!(shown.chars().count() < 200);
        assert!(cut(&format!("--user {id}: no such")).ends_with("end: no such"));
        assert_eq!(one_line(&id), shown);
        assert!(matches!(cut("a path /of/some/length"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        assert!(matches!(printable("Zoë\n日本"), Cow::Borrowed("Zoë\n日本")));
        assert_eq!(printable("a\u{1b}[2J\nb"), "a\\u{1b}[2J\nb");
        assert_eq!(one_line("a\nb\r\u{9b}c\u{202e}"), "a\\nb\\r\\u{9b}c\\u{202e}");
        let mut out = Vec::new();
        ToTerminal(&mut out).write_all("u,1\tü\u{1b}[2J\u{9b}\n".as_bytes()).unwrap();
        assert!(String::from_utf8_lossy(&out).starts_with("u,1\tü?[2J?"));
        assert!(!out.contains(&0x1b) && !out.contains(&0xc2) && out.ends_with(b"\n"));
    }
}
