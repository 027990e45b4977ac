//! Markup in which everything that comes from data is escaped: ids of users and items are whatever a log says.

use std::fmt::Write as _;

use serde_json::Value;

/// Markup that may go into the page as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Html(String);

impl Html {
    /// Markup of the program's own.
    pub(super) fn trusted(markup: &str) -> Self {
        Self(markup.to_string())
    }

    /// Appends `more`.
    pub(super) fn push(&mut self, more: &Html) {
        self.0 += &more.0;
    }

    /// Whether there is nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The markup.
    pub(super) fn into_string(self) -> String {
        self.0
    }
}

impl FromIterator<Html> for Html {
    fn from_iter<T: IntoIterator<Item = Html>>(parts: T) -> Self {
        let mut all = Html::default();
        parts.into_iter().for_each(|part| all.push(&part));
        all
    }
}

/// What can stand at a `{}` of [`html!`].
pub(super) trait Show {
    /// Appends it to `out`, escaped unless it is [`Html`].
    fn show(&self, out: &mut String);
}

impl Show for Html {
    fn show(&self, out: &mut String) {
        out.push_str(&self.0);
    }
}

impl Show for str {
    fn show(&self, out: &mut String) {
        self.chars().for_each(|c| escape(visible(c), out));
    }
}

impl Show for String {
    fn show(&self, out: &mut String) {
        self.as_str().show(out);
    }
}

/// A text of several lines, which are kept.
pub(super) struct Lines<'a>(pub(super) &'a str);

impl Show for Lines<'_> {
    fn show(&self, out: &mut String) {
        self.0.chars().for_each(|c| escape(if c == '\n' { c } else { visible(c) }, out));
    }
}

/// A coordinate: two decimals at most.
impl Show for f64 {
    fn show(&self, out: &mut String) {
        let text = format!("{self:.2}");
        out.push_str(text.trim_end_matches('0').trim_end_matches('.'));
    }
}

impl Show for usize {
    fn show(&self, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = write!(out, "{self}");
    }
}

impl<T: Show + ?Sized> Show for &T {
    fn show(&self, out: &mut String) {
        (**self).show(out);
    }
}

/// `template` with its `{}` filled in, in order.
pub(super) fn fill(template: &'static str, values: &[&dyn Show]) -> Html {
    debug_assert_eq!(template.matches("{}").count(), values.len(), "{template}");
    let mut out = String::with_capacity(template.len() + 16 * values.len());
    let mut pieces = template.split("{}");
    out.push_str(pieces.next().unwrap_or_default());
    for (piece, value) in pieces.zip(values) {
        value.show(&mut out);
        out.push_str(piece);
    }
    Html(out)
}

/// Markup from a template whose `{}` stand for text, which is escaped, or for other markup.
macro_rules! html {
    ($template:literal $(, $value:expr)* $(,)?) => {
        $crate::report::html::fill($template, &[$(&$value as &dyn $crate::report::html::Show),*])
    };
}
pub(super) use html;

/// `c`, or something to see where it is a control character or changes the direction of what follows.
fn visible(c: char) -> char {
    match c {
        '\0'..='\u{1f}' => char::from_u32(0x2400 + c as u32).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\u{7f}' => '\u{2421}',
        '\u{80}'..='\u{9f}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => {
            char::REPLACEMENT_CHARACTER
        }
        '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' => {
            char::REPLACEMENT_CHARACTER
        }
        '\u{e0000}'..='\u{e007f}' => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

fn escape(c: char, out: &mut String) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\'' => out.push_str("&#39;"),
        c => out.push(c),
    }
}

/// An id as the page shows it: every character visible, the middle left out where there are more than `most` of them.
pub(super) fn shown(id: &str, most: usize) -> String {
    let (head, tail) = (most * 2 / 3, most - most * 2 / 3 - 1);
    let Some((cut, _)) = id.char_indices().nth(most) else { return id.chars().map(visible).collect() };
    let kept = id.char_indices().nth(head).map_or(cut, |(at, _)| at);
    let last = id.char_indices().rev().nth(tail.saturating_sub(1)).map_or(id.len(), |(at, _)| at);
    id[..kept].chars().chain(['…']).chain(id[last..].chars()).map(visible).collect()
}

/// `value` as JSON that can stand in a `<script>`: no text in it can end that, or begin a comment.
pub(super) fn json(value: &Value) -> Html {
    let mut out = String::new();
    for c in value.to_string().chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    Html(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_comes_from_data_is_text() {
        let of = |id: &str| html!("<td title=\"{}\">{}</td>", id, id).into_string();
        let script = of("</script><script>alert(\"1\")</script>");
        assert_eq!(script.matches('<').count(), 2, "{script}");
        assert_eq!(script.matches('"').count(), 2, "{script}");
        assert_eq!(of("'&\0\u{7f}\u{202e}"), "<td title=\"&#39;&amp;␀␡\u{fffd}\">&#39;&amp;␀␡\u{fffd}</td>");
        assert_eq!(html!("{}", Lines("a\n<b")).into_string(), "a\n&lt;b");
        assert_eq!(html!("{} {} {}", 1.5, 2.0, 100.0).into_string(), "1.5 2 100");
    }

    #[test]
    fn long_ids_keep_both_ends() {
        assert_eq!(shown("abc", 10), "abc");
        let id = "x".repeat(5_000) + &"y".repeat(5_000);
        let text = shown(&id, 60);
        assert_eq!(text.chars().count(), 60);
        assert!(text.starts_with("xxx") && text.ends_with("yyy") && text.contains('…'));
        assert_eq!(shown("a\nb", 60), "a␊b");
    }

    proptest! {
        #[test]
        fn json_in_a_script_is_the_value_and_ends_no_script(text in ".*", key in ".{0,9}") {
            let text = text + "</script><!--\u{2028}&";
            let value = serde_json::json!({ key: [text, 1.25, null] });
            let block = json(&value).into_string();
            let special = ['<', '>', '&', '\u{2028}'];
            prop_assert!(!block.contains(special));
            prop_assert_eq!(serde_json::from_str::<Value>(&block).unwrap(), value);
        }

        #[test]
        fn escaped_text_has_no_markup_and_short_ids_are_short(text in ".*", most in 4usize..90) {
            let escaped = html!("{}", text).into_string();
            prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
            prop_assert!(!escaped.chars().any(char::is_control));
            prop_assert!(shown(&text, most).chars().count() <= most.max(text.chars().count().min(most)));
        }
    }
}
