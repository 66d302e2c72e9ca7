//! The little YAML that YOLO's `data.yaml` needs: top-level keys with a scalar, a list of scalars or
//! a map of scalars, in block or flow style. Anything else under a key is left alone.

use std::collections::BTreeMap;

/// The value of one top-level key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Yaml {
    Scalar(String),
    List(Vec<String>),
    Map(Vec<(String, String)>),
}

/// The top-level keys of a document, or the line that is no YAML of this kind.
pub fn parse(text: &str) -> Result<BTreeMap<String, Yaml>, String> {
    let lines: Vec<(usize, &str)> = (1..)
        .zip(text.lines())
        .map(|(number, line)| (number, without_comment(line).trim_end()))
        .filter(|(_, line)| !line.trim().is_empty() && *line != "---")
        .collect();
    let mut values = BTreeMap::new();
    let mut at = 0;
    while let Some(&(number, line)) = lines.get(at) {
        at += 1;
        let Some((key, rest)) = split_pair(line).filter(|_| !line.starts_with([' ', '\t', '-']))
        else {
            return Err(format!("line {number}: expected `key: value`, found `{line}`"));
        };
        let mut rest = rest.to_owned();
        let block_from = at;
        while lines.get(at).is_some_and(|(_, line)| line.starts_with([' ', '\t', '-', ']', '}'])) {
            at += 1;
        }
        let block = &lines[block_from..at];
        let value = if rest.is_empty() {
            block_value(block)
        } else {
            block.iter().for_each(|(_, line)| {
                rest.push(' ');
                rest.push_str(line.trim());
            });
            flow_value(&rest)
        };
        if let Some(value) = value {
            values.insert(unquote(key), value);
        }
    }
    Ok(values)
}

/// A line without what follows ` #` outside of quotes.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '#' && before.is_whitespace() => return &line[..at],
            None if (c == '"' || c == '\'') && !before.is_alphanumeric() => quote = Some(c),
            _ => {}
        }
        before = c;
    }
    line
}

/// `key` and `value` of `key: value`; an empty value for `key:`.
fn split_pair(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    match line.split_once(": ") {
        Some((key, value)) => Some((key.trim(), value.trim())),
        None => line.strip_suffix(':').map(|key| (key.trim(), "")),
    }
}

fn block_value(block: &[(usize, &str)]) -> Option<Yaml> {
    let items: Option<Vec<String>> = block
        .iter()
        .map(|(_, line)| {
            let line = line.trim();
            line.strip_prefix("- ").map(unquote)
        })
        .collect();
    if let Some(items) = items {
        return Some(Yaml::List(items));
    }
    let pairs = block
        .iter()
        .map(|(_, line)| split_pair(line).map(|(key, value)| (unquote(key), unquote(value))));
    pairs.collect::<Option<Vec<_>>>().map(Yaml::Map)
}

fn flow_value(text: &str) -> Option<Yaml> {
    let text = text.trim();
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']')?;
        return Some(Yaml::List(pieces(inner).into_iter().map(unquote).collect()));
    }
    if let Some(inner) = text.strip_prefix('{') {
        let inner = inner.strip_suffix('}')?;
        let pairs = pieces(inner).into_iter().map(|piece| {
            let (key, value) = piece.split_once(':')?;
            Some((unquote(key.trim()), unquote(value.trim())))
        });
        return pairs.collect::<Option<Vec<_>>>().map(Yaml::Map);
    }
    Some(Yaml::Scalar(unquote(text)))
}

/// What stands between the commas outside of quotes.
fn pieces(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut start, mut quote, mut before) = (0, None, ' ');
    for (at, c) in text.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            None if (c == '"' || c == '\'') && !before.is_alphanumeric() => quote = Some(c),
            None if c == ',' => {
                found.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
        before = c;
    }
    found.push(text[start..].trim());
    found.retain(|piece| !piece.is_empty());
    found
}

fn unquote(text: &str) -> String {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner.replace(&format!("{quote}{quote}"), &quote.to_string());
        }
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(items: &[&str]) -> Yaml {
        Yaml::List(items.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn names_are_read_in_every_usual_style() {
        let wanted = list(&["cat", "it's a, dog", "red #1"]);
        for text in [
            "names: [cat, \"it's a, dog\", 'red #1']",
            "names: [cat,\n  'it''s a, dog',\n  'red #1'\n]",
            "names:\n- cat\n- it's a, dog # comment\n- \"red #1\"",
            "names:\n  - cat\n  - 'it''s a, dog'\n  - 'red #1'\nnc: 3",
        ] {
            assert_eq!(parse(text).unwrap()["names"], wanted, "{text}");
        }
        let pairs = vec![("0".to_owned(), "cat".to_owned()), ("1".to_owned(), "dog".to_owned())];
        for text in ["names:\n  0: cat\n  1: dog", "names: {0: cat, 1: dog}"] {
            assert_eq!(parse(text).unwrap()["names"], Yaml::Map(pairs.clone()), "{text}");
        }
    }

    #[test]
    fn other_keys_do_not_disturb() {
        let text = "# head\npath: ../data # here\n\ndownload: |\n  import x\n  y = {\nnc: 2\n";
        let values = parse(text).unwrap();
        assert_eq!(values["path"], Yaml::Scalar("../data".into()));
        assert_eq!(values["nc"], Yaml::Scalar("2".into()));
        assert!(parse("a: 1\nnot yaml").err().unwrap().contains("line 2"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a\u{e9}:\\-\\[\\]{}'\"#, \n]{0,80}") {
            let _ = parse(&text);
        }
    }
}
