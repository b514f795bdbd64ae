//! From JSON to msgpack.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use rmp::encode::{
    write_array_len, write_bin, write_bool, write_f64, write_map_len, write_nil, write_sint,
    write_str, write_uint,
};
use serde::{Deserializer as _, de::Visitor};

use super::{NUMBER, PLACEHOLDER};

/// A vector takes everything.
const WRITTEN: &str = "a vector takes everything";

/// An array or an object, in the order of their first brackets. msgpack says before them how much is in them.
struct Shape {
    is_object: bool,
    /// Whether something stands in it.
    has_something: bool,
    commas: u32,
    /// Whether the object says that it is a placeholder.
    is_placeholder: bool,
    number: Option<usize>,
    /// If it stands for this attachment: where its text ends, and how many shapes are in it.
    attachment: Option<(usize, usize, usize)>,
}

/// What stands at some place of a JSON text.
#[derive(Clone, Copy)]
enum Token<'a> {
    /// `[` or `{`
    Open(u8),
    /// `]` or `}`
    Close,
    Comma,
    Colon,
    /// A text, with its quotes.
    Text(&'a str),
    /// A number, or a word.
    Other(&'a str),
}

struct Tokens<'a> {
    json: &'a str,
    at: usize,
}

/// JSON text whose placeholders stand for attachments. Numbers that no double holds become infinite, as in JavaScript; what is
/// no JSON becomes some msgpack.
pub(crate) fn pack(json: &str, attachments: &[Bytes]) -> Vec<u8> {
    let shapes = shapes(json, attachments.len());
    let mut out = Vec::with_capacity(json.len());
    let mut tokens = Tokens { json, at: 0 };
    let mut next = 0;
    while let Some(token) = tokens.next() {
        match token {
            Token::Open(_) => {
                let Some(shape) = shapes.get(next) else {
                    break;
                };
                next += 1;
                match shape.attachment {
                    Some((attachment, end, inside)) => {
                        write_bin(&mut out, &attachments[attachment]).expect(WRITTEN);
                        tokens.at = end;
                        next += inside;
                    }
                    None => push_head(&mut out, shape),
                }
            }
            Token::Text(text) => write_str(&mut out, &unquoted(text)).expect(WRITTEN),
            Token::Other(word) => push_word(&mut out, word),
            Token::Close | Token::Comma | Token::Colon => {}
        }
    }
    out
}

fn push_head(out: &mut Vec<u8>, shape: &Shape) {
    let count = match shape.has_something {
        true => shape.commas + 1,
        false => 0,
    };
    let written = match shape.is_object {
        true => write_map_len(out, count),
        false => write_array_len(out, count),
    };
    written.expect(WRITTEN);
}

fn push_word(out: &mut Vec<u8>, word: &str) {
    match word {
        "true" => write_bool(out, true).expect(WRITTEN),
        "false" => write_bool(out, false).expect(WRITTEN),
        _ => match (word.parse::<u64>(), word.parse::<i64>(), word.parse()) {
            (Ok(number), ..) => drop(write_uint(out, number).expect(WRITTEN)),
            // That is a double's.
            (_, Ok(0), _) => write_f64(out, -0.0).expect(WRITTEN),
            (_, Ok(number), _) => drop(write_sint(out, number).expect(WRITTEN)),
            (.., Ok(number)) => write_f64(out, number).expect(WRITTEN),
            _ => write_nil(out).expect(WRITTEN),
        },
    }
}

/// All arrays and objects.
fn shapes(json: &str, attachments: usize) -> Vec<Shape> {
    let mut shapes: Vec<Shape> = Vec::new();
    // Those that have not ended yet, by their places.
    let mut open: Vec<usize> = Vec::new();
    let mut tokens = Tokens { json, at: 0 };
    let (mut text, mut key) = ("", None);
    while let Some(token) = tokens.next() {
        let name = key.take();
        let around = open.last().copied();
        match token {
            Token::Close => {
                if let Some(index) = open.pop() {
                    let inside = shapes.len() - index - 1;
                    shapes[index].close(tokens.at, inside, attachments);
                }
                continue;
            }
            Token::Open(bracket) => {
                open.push(shapes.len());
                shapes.push(Shape::new(bracket == b'{'));
            }
            Token::Text(it) => text = it,
            Token::Colon => key = Some(text),
            Token::Comma | Token::Other(_) => {}
        }
        let Some(around) = around.and_then(|index| shapes.get_mut(index)) else {
            continue;
        };
        around.has_something = true;
        match (token, name) {
            (Token::Comma, _) => around.commas += 1,
            (Token::Other(word), Some(name)) => around.says(name, word),
            // Neither is what a placeholder says.
            (Token::Text(_) | Token::Open(_), Some(name)) => around.says(name, ""),
            _ => {}
        }
    }
    shapes
}

impl Shape {
    fn new(is_object: bool) -> Self {
        Self {
            is_object,
            has_something: false,
            commas: 0,
            is_placeholder: false,
            number: None,
            attachment: None,
        }
    }

    /// It has a field, whose name stands in quotes. Of those with one name the last counts.
    fn says(&mut self, name: &str, value: &str) {
        let name = name.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
        match name {
            Some(PLACEHOLDER) => self.is_placeholder = value == "true",
            Some(NUMBER) => self.number = value.parse().ok(),
            _ => {}
        }
    }

    fn close(&mut self, end: usize, inside: usize, attachments: usize) {
        let number = self.number.filter(|number| *number < attachments);
        if let (true, Some(number)) = (self.is_placeholder, number) {
            self.attachment = Some((number, end, inside));
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let bytes = self.json.as_bytes();
        let is_blank = |byte: &u8| byte.is_ascii_whitespace();
        self.at += bytes[self.at..]
            .iter()
            .take_while(|it| is_blank(it))
            .count();
        let start = self.at;
        let first = *bytes.get(start)?;
        self.at += 1;
        Some(match first {
            b'[' | b'{' => Token::Open(first),
            b']' | b'}' => Token::Close,
            b',' => Token::Comma,
            b':' => Token::Colon,
            b'"' => {
                let mut rest = bytes[self.at..].iter();
                while let Some(byte) = rest.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => drop(rest.next()),
                        _ => {}
                    }
                }
                self.at = bytes.len() - rest.len();
                Token::Text(&self.json[start..self.at])
            }
            _ => {
                let ends = |byte: &u8| is_blank(byte) || b",:[]{}\"".contains(byte);
                let rest = bytes[self.at..].iter();
                self.at += rest.take_while(|it| !ends(it)).count();
                Token::Other(&self.json[start..self.at])
            }
        })
    }
}

/// What a text says. Half a surrogate pair is no character, and stands for the one that there is for that.
fn unquoted(text: &str) -> Cow<'_, str> {
    let inner = text.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    match inner {
        Some(inner) if !inner.contains('\\') => inner.into(),
        _ => {
            let mut json = serde_json::Deserializer::from_str(text);
            json.deserialize_bytes(Characters)
                .unwrap_or_default()
                .into()
        }
    }
}

struct Characters;

impl Visitor<'_> for Characters {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<String, E> {
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_number_or_a_text_is_it_is_packed() {
        for (json, expected) in [
            ("1e999", &[0xcb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0][..]),
            ("-0", &[0xcb, 0x80, 0, 0, 0, 0, 0, 0, 0]),
            ("1.5", &[0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0]),
            ("-1", &[0xff]),
            (r#""\ud800""#, "\u{a3}\u{fffd}".as_bytes()),
        ] {
            let packed = pack(json, &[]);
            match json.starts_with('"') {
                true => assert_eq!(packed[1..].len(), (packed[0] & 0x1f) as usize, "{json}"),
                false => assert_eq!(packed, expected, "{json}"),
            }
        }
        let deep = "[".repeat(1_000) + &"]".repeat(1_000);
        assert_eq!(pack(&deep, &[]).len(), 1_000);
    }

    #[test]
    fn only_what_stands_for_an_attachment_becomes_one() {
        let attachments = [Bytes::from_static(b"x")];
        let with = |json: &str| pack(json, &attachments);
        let binary = [0xc4, 1, b'x'];
        for json in [
            r#"{"_placeholder":true,"num":0}"#,
            r#"{"num":0,"more":[[],{}],"_placeholder":true}"#,
            r#" { "_placeholder" : false , "_placeholder" : true , "num" : 7 , "num" : 0 } "#,
        ] {
            assert_eq!(with(json), binary, "{json}");
            let list = [&[0x92][..], &binary, &[0x90]].concat();
            assert_eq!(with(&format!("[{json},[]]")), list, "{json}");
        }
        for json in [
            r#"{"_placeholder":true,"num":1}"#,
            r#"{"_placeholder":true,"num":"0"}"#,
            r#"{"_placeholder":"true","num":0}"#,
            r#"{"_placeholder":{"_placeholder":true},"num":0}"#,
            r#"["_placeholder",true,"num",0]"#,
        ] {
            assert_ne!(with(json)[0], 0xc4, "{json}");
        }
    }
}
