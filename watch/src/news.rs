//! What is told.

use serde::Serialize as _;
use serde_json::Value;

/// What an answer says, or what of it is new.
#[derive(Clone, Debug, PartialEq)]
pub struct News(Said);

#[derive(Clone, Debug, PartialEq)]
enum Said {
    /// What there is.
    Data(Value),
    /// What has happened, the oldest first. Each is told once.
    Events(Vec<Value>),
}

impl News {
    pub(crate) const fn data(data: Value) -> Self {
        Self(Said::Data(data))
    }

    pub(crate) const fn events(events: Vec<Value>) -> Self {
        Self(Said::Events(events))
    }

    /// What is new in `self` to whoever knows `before`. `None`: nothing.
    pub(crate) fn since(&self, before: &Self) -> Option<Self> {
        if self == before {
            return None;
        }
        match (&before.0, &self.0) {
            (Said::Events(before), Said::Events(now)) => after(before, now).map(Self::events),
            (Said::Data(_) | Said::Events(_), Said::Data(_) | Said::Events(_)) => Some(self.clone()),
        }
    }

    /// As JSON for people: four blanks for each level, no newline at the end.
    pub fn indented(&self) -> serde_json::Result<String> {
        let mut text = Vec::new();
        let layout = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        self.write(&mut serde_json::Serializer::with_formatter(&mut text, layout))?;
        Ok(escaped(&String::from_utf8_lossy(&text)))
    }

    /// As JSON for programs: one line, with the newline at its end.
    pub fn compact(&self) -> serde_json::Result<String> {
        let mut text = Vec::new();
        self.write(&mut serde_json::Serializer::new(&mut text))?;
        text.push(b'\n');
        Ok(escaped(&String::from_utf8_lossy(&text)))
    }

    fn write<F: serde_json::ser::Formatter>(
        &self,
        to: &mut serde_json::Serializer<&mut Vec<u8>, F>,
    ) -> serde_json::Result<()> {
        match &self.0 {
            Said::Data(data) => data.serialize(to),
            Said::Events(events) => events.serialize(to),
        }
    }
}

/// Those events that came after the last one of `before`, or all if that is not among them. `None`: there are none.
fn after(before: &[Value], now: &[Value]) -> Option<Vec<Value>> {
    let id = |event: &Value| event.get("ID").cloned();
    let last = before.last().and_then(id);
    let known = now.iter().rposition(|event| last.is_some() && id(event) == last);
    let new = &now[known.map_or(0, |known| known + 1)..];
    (!new.is_empty()).then(|| new.to_vec())
}

/// Without the characters that mean something in HTML, as Go writes it. They stand in strings only.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' => text.push_str("\\u003c"),
            '>' => text.push_str("\\u003e"),
            '&' => text.push_str("\\u0026"),
            '\u{2028}' => text.push_str("\\u2028"),
            '\u{2029}' => text.push_str("\\u2029"),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn how_it_is_written() {
        let news = News::data(json!({"a<b>&\u{2028}": [1, "ä"]}));
        assert_eq!(
            news.compact().unwrap(),
            "{\"a\\u003cb\\u003e\\u0026\\u2028\":[1,\"ä\"]}\n"
        );
        assert_eq!(
            news.indented().unwrap(),
            "{\n    \"a\\u003cb\\u003e\\u0026\\u2028\": [\n        1,\n        \"ä\"\n    ]\n}"
        );
        assert_eq!(News::events(Vec::new()).compact().unwrap(), "[]\n");
    }
}
