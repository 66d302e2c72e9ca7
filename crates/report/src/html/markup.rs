//! Text that becomes HTML.

/// A page as it grows.
#[derive(Default)]
pub struct Page {
    pub text: String,
}

impl Page {
    pub fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// `<name>text</name>`, with the text as it is meant to be read.
    pub fn element(&mut self, name: &str, text: &str) {
        self.line(&format!("<{name}>{}</{name}>", escaped(text)));
    }

    /// A command that can be copied.
    pub fn command(&mut self, command: &str) {
        self.line(&format!(
            "<div class=\"command\"><pre><code>{}</code></pre>\
             <button type=\"button\" class=\"copy\" hidden>Copy</button></div>",
            escaped(command)
        ));
    }
}

/// Text inside an element or a quoted attribute.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_element() {
        let hostile = "</code><script>alert('x')</script>&\"";
        let escaped = escaped(hostile);
        assert!(!escaped.contains(['<', '>', '"', '\'']), "{escaped}");
        assert!(escaped.ends_with("&amp;&quot;"), "{escaped}");
    }
}
