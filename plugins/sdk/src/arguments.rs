//! From the JSON text of an argument array to the types of a handler.
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::Error as Absent;
use serde::de::{DeserializeOwned, Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

/// All arguments of an event: a tuple with one type each, or `Vec<T>` for any number of `T`.
///
/// The array has exactly as many elements as the tuple, except that arguments at the end may be
/// left out if they are `Option`s.
pub trait Arguments: Sized {
    /// Parses the text in one pass.
    fn decode(json: &str) -> serde_json::Result<Self>;

    /// The JSON Schema of the array.
    fn schema(generator: &mut SchemaGenerator) -> Schema;
}

impl<T: DeserializeOwned + JsonSchema> Arguments for Vec<T> {
    fn decode(json: &str) -> serde_json::Result<Self> {
        serde_json::from_str(json)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": generator.subschema_for::<T>() })
    }
}

macro_rules! tuple {
    ($count:literal: $($T:ident)*) => {
        impl<$($T: DeserializeOwned + JsonSchema),*> Arguments for ($($T,)*) {
            fn decode(json: &str) -> serde_json::Result<Self> {
                struct Tuple<T>(PhantomData<T>);

                impl<'de, $($T: DeserializeOwned),*> Visitor<'de> for Tuple<($($T,)*)> {
                    type Value = ($($T,)*);

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("an array of ", $count, " arguments"))
                    }

                    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
                        let arguments = ($(next::<$T, A>(&mut array)?,)*);
                        match array.next_element::<IgnoredAny>()? {
                            None => Ok(arguments),
                            Some(_) => Err(A::Error::custom(concat!("expected at most ", $count, " arguments"))),
                        }
                    }
                }

                let mut json = serde_json::Deserializer::from_str(json);
                let arguments = json.deserialize_seq(Tuple(PhantomData))?;
                json.end()?;
                Ok(arguments)
            }

            fn schema(generator: &mut SchemaGenerator) -> Schema {
                let arguments: [fn(&mut SchemaGenerator) -> Argument; $count] = [$(Argument::of::<$T>),*];
                array(arguments.map(|of| of(generator)).into())
            }
        }
    };
}

tuple!(0: );
tuple!(1: A1);
tuple!(2: A1 A2);
tuple!(3: A1 A2 A3);
tuple!(4: A1 A2 A3 A4);
tuple!(5: A1 A2 A3 A4 A5);
tuple!(6: A1 A2 A3 A4 A5 A6);

/// What the schema of a tuple says of one argument.
struct Argument {
    schema: Schema,
    optional: bool,
}

impl Argument {
    fn of<T: DeserializeOwned + JsonSchema>(generator: &mut SchemaGenerator) -> Self {
        Self {
            schema: generator.subschema_for::<T>(),
            optional: absent::<T>().is_some(),
        }
    }
}

/// The schema of an array of these arguments and no more.
fn array(arguments: Vec<Argument>) -> Schema {
    let max = arguments.len();
    let min = arguments
        .iter()
        .rposition(|argument| !argument.optional)
        .map_or(0, |last| last + 1);
    let mut schema = json_schema!({ "type": "array", "minItems": min, "maxItems": max });
    // Draft 2020-12 wants at least one schema in `prefixItems`.
    if max > 0 {
        let schemas: Vec<_> = arguments
            .into_iter()
            .map(|argument| argument.schema)
            .collect();
        schema.insert("prefixItems".to_owned(), schemas.into());
    }
    schema
}

/// The next argument, or what stands for it if it was left out.
fn next<'de, T: DeserializeOwned, A: SeqAccess<'de>>(array: &mut A) -> Result<T, A::Error> {
    match array.next_element()? {
        Some(argument) => Ok(argument),
        None => absent().ok_or_else(|| A::Error::custom("an argument is missing")),
    }
}

/// The value of an argument that was left out: `None` for an `Option`, nothing for other types.
/// Serde treats missing fields of structs in the same way.
fn absent<T: DeserializeOwned>() -> Option<T> {
    T::deserialize(Missing).ok()
}

struct Missing;

impl<'de> Deserializer<'de> for Missing {
    type Error = Absent;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Absent> {
        Err(Absent::custom(""))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Absent> {
        visitor.visit_none()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_decoded_by_position() {
        assert_eq!(<()>::decode("[]").unwrap(), ());
        assert_eq!(<(u8,)>::decode("[7]").unwrap(), (7,));
        assert_eq!(
            <(u8, String)>::decode(r#" [7, "x"] "#).unwrap(),
            (7, "x".to_owned())
        );
        assert_eq!(Vec::<u8>::decode("[1,2,3]").unwrap(), [1, 2, 3]);
    }

    #[test]
    fn optional_arguments_at_the_end_may_be_left_out() {
        type Args = (u8, Option<u8>, Option<u8>);
        assert_eq!(Args::decode("[1]").unwrap(), (1, None, None));
        assert_eq!(Args::decode("[1,null,3]").unwrap(), (1, None, Some(3)));
        assert!(Args::decode("[]").is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_position() {
        for (json, cause) in [
            ("[]", "an argument is missing at line 1 column 2"),
            (
                "[300]",
                "invalid value: integer `300`, expected u8 at line 1 column 4",
            ),
            ("[1,2]", "expected at most 1 arguments at line 1 column 5"),
            (
                "{}",
                "invalid type: map, expected an array of 1 arguments at line 1 column 0",
            ),
            ("[1] x", "trailing characters at line 1 column 5"),
        ] {
            assert_eq!(
                <(u8,)>::decode(json).unwrap_err().to_string(),
                cause,
                "{json}"
            );
        }
    }
}
