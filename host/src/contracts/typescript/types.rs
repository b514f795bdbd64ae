//! Types of TypeScript, and how they are written.

use std::{collections::HashMap, fmt};

use indexmap::IndexSet;

use super::super::text::{comment_lines, quoted};

/// A type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Type {
    /// Anything, or what TypeScript cannot say.
    Unknown,
    /// Nothing fits.
    Never,
    /// A word of the language, e.g. `string`.
    Word(&'static str),
    /// One text, number or the like, as it is written.
    Literal(String),
    /// A type that is declared elsewhere.
    Named(String),
    /// As many of one type as there are.
    Array(Box<Type>),
    /// One type for each place.
    Tuple(Tuple),
    /// A function that takes one of these lists.
    Function(Vec<Tuple>),
    Object(Object),
    /// One of these.
    Union(Vec<Type>),
    /// All of these.
    Both(Vec<Type>),
}

/// The elements of a list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Tuple {
    pub elements: Vec<Type>,
    /// How many of them, counted from the end, need not be there.
    pub optional: usize,
    /// The type of those that may follow.
    pub rest: Option<Box<Type>>,
    /// What stands behind all of them.
    pub ack: Option<Ack>,
}

/// The last argument of who wants an ack.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Ack {
    pub function: Box<Type>,
    pub is_optional: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Object {
    pub fields: Vec<Field>,
    /// The type of fields with other names, if there may be some.
    pub others: Option<Box<Type>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Field {
    pub name: String,
    pub is_optional: bool,
    pub docs: Vec<String>,
    pub value: Type,
}

impl Type {
    /// One of these, each of them once.
    pub(crate) fn union(types: impl IntoIterator<Item = Self>) -> Self {
        let mut all = IndexSet::new();
        for one in types {
            match one {
                Self::Unknown => return Self::Unknown,
                Self::Never => {}
                Self::Union(more) => all.extend(more),
                one => {
                    all.insert(one);
                }
            }
        }
        match all.len() {
            0 => Self::Never,
            1 => all.swap_remove_index(0).unwrap_or(Self::Never),
            _ => Self::Union(all.into_iter().collect()),
        }
    }

    /// All of these at once.
    pub(crate) fn both(types: impl IntoIterator<Item = Self>) -> Self {
        let mut all = IndexSet::new();
        for one in types {
            match one {
                Self::Never => return Self::Never,
                Self::Unknown => {}
                Self::Both(more) => all.extend(more),
                one => {
                    all.insert(one);
                }
            }
        }
        match all.len() {
            0 => Self::Unknown,
            1 => all.swap_remove_index(0).unwrap_or(Self::Unknown),
            _ => Self::Both(all.into_iter().collect()),
        }
    }

    /// A text that is exactly this one.
    pub(crate) fn text(text: &str) -> Self {
        Self::Literal(quoted(text))
    }

    /// Whether it is written with an operator that something beside it could be taken for a part of.
    fn is_loose(&self) -> bool {
        matches!(self, Self::Union(_) | Self::Both(_) | Self::Function(_))
    }

    /// How many types it is made of.
    pub(crate) fn size(&self) -> usize {
        let all = |types: &[Self]| types.iter().map(Self::size).sum::<usize>();
        1 + match self {
            Self::Unknown | Self::Never | Self::Word(_) | Self::Literal(_) | Self::Named(_) => 0,
            Self::Array(element) => element.size(),
            Self::Tuple(tuple) => tuple.size(),
            Self::Function(lists) => lists.iter().map(Tuple::size).sum(),
            Self::Object(object) => {
                let fields = object.fields.iter().map(|field| field.value.size());
                let others = object.others.as_ref().map_or(0, |it| it.size());
                fields.sum::<usize>() + others
            }
            Self::Union(types) | Self::Both(types) => all(types),
        }
    }

    /// Gives the types that it refers to other names.
    pub(crate) fn rename(&mut self, names: &HashMap<String, String>) {
        match self {
            Self::Named(name) => {
                if let Some(new) = names.get(name) {
                    name.clone_from(new);
                }
            }
            Self::Unknown | Self::Never | Self::Word(_) | Self::Literal(_) => {}
            Self::Array(element) => element.rename(names),
            Self::Tuple(tuple) => tuple.rename(names),
            Self::Function(lists) => lists.iter_mut().for_each(|list| list.rename(names)),
            Self::Object(Object { fields, others }) => {
                let values = fields.iter_mut().map(|field| &mut field.value);
                values
                    .chain(others.as_deref_mut())
                    .for_each(|it| it.rename(names));
            }
            Self::Union(types) | Self::Both(types) => {
                types.iter_mut().for_each(|it| it.rename(names));
            }
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Never => f.write_str("never"),
            Self::Word(word) => f.write_str(word),
            Self::Literal(text) | Self::Named(text) => f.write_str(text),
            Self::Array(element) => {
                element.write_tight(f, depth)?;
                f.write_str("[]")
            }
            Self::Tuple(tuple) => tuple.write(f, depth),
            Self::Function(lists) => write_function(f, lists, depth),
            Self::Object(object) => object.write(f, depth),
            Self::Union(types) => write_joined(f, types, " | ", depth),
            Self::Both(types) => write_joined(f, types, " & ", depth),
        }
    }

    fn write_tight(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        if !self.is_loose() {
            return self.write(f, depth);
        }
        f.write_str("(")?;
        self.write(f, depth)?;
        f.write_str(")")
    }

    /// As it is written that many steps to the right.
    pub(crate) fn at(&self, depth: usize) -> impl fmt::Display {
        At(self, depth)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

struct At<'a>(&'a Type, usize);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f, self.1)
    }
}

impl Tuple {
    fn size(&self) -> usize {
        let elements = self.elements.iter().map(Type::size);
        let rest = self.rest.as_ref().map_or(0, |it| it.size());
        let ack = self.ack.as_ref().map_or(0, |ack| ack.function.size());
        elements.sum::<usize>() + rest + ack
    }

    /// Gives the types that it refers to other names.
    pub(crate) fn rename(&mut self, names: &HashMap<String, String>) {
        let ack = self.ack.as_mut().map(|ack| &mut *ack.function);
        let others = self.rest.as_deref_mut().into_iter().chain(ack);
        let all = self.elements.iter_mut().chain(others);
        all.for_each(|it| it.rename(names));
    }

    /// The lists that it stands for, in each of which all is there that can be.
    pub(crate) fn spelled_out(&self) -> impl Iterator<Item = Self> {
        let count = self.elements.len();
        let least = count - self.optional;
        (least..=count).map(move |length| Self {
            elements: self.elements[..length].to_vec(),
            optional: 0,
            ack: None,
            rest: self.rest.clone().filter(|_| length == count),
        })
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        f.write_str("[")?;
        let required = self.elements.len() - self.optional;
        for (index, element) in self.elements.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            element.write_tight(f, depth)?;
            if index >= required {
                f.write_str("?")?;
            }
        }
        if let Some(rest) = &self.rest {
            f.write_str(if self.elements.is_empty() {
                "..."
            } else {
                ", ..."
            })?;
            rest.write_tight(f, depth)?;
            f.write_str("[]")?;
        }
        if let Some(ack) = &self.ack {
            let is_first = self.elements.is_empty() && self.rest.is_none();
            f.write_str(if is_first { "" } else { ", " })?;
            ack.function.write_tight(f, depth)?;
            f.write_str(if ack.is_optional { "?" } else { "" })?;
        }
        f.write_str("]")
    }

    /// Whether each of its elements may have a name of its own: nothing follows what there is any number of.
    fn has_names(&self) -> bool {
        self.rest.is_none() || self.ack.is_none()
    }

    /// As the parameters of a function.
    fn write_parameters(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let required = self.elements.len() - self.optional;
        let mut comma = "";
        for (index, element) in self.elements.iter().enumerate() {
            let mark = if index < required { "" } else { "?" };
            match self.elements.len() {
                1 => write!(f, "data{mark}: ")?,
                _ => write!(f, "{comma}data{}{mark}: ", index + 1)?,
            }
            element.write(f, depth)?;
            comma = ", ";
        }
        if let Some(rest) = &self.rest {
            write!(f, "{comma}...more: ")?;
            rest.write_tight(f, depth)?;
            f.write_str("[]")?;
        }
        if let Some(ack) = &self.ack {
            let mark = if ack.is_optional { "?" } else { "" };
            write!(f, "{comma}ack{mark}: ")?;
            ack.function.write(f, depth)?;
        }
        Ok(())
    }
}

impl Object {
    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        if self.fields.is_empty() && self.others.is_none() {
            return f.write_str("Record<string, never>");
        }
        f.write_str("{\n")?;
        for field in &self.fields {
            write_docs(f, &field.docs, depth + 1)?;
            let mark = if field.is_optional { "?" } else { "" };
            write!(f, "{:1$}", "", 2 * (depth + 1))?;
            write!(f, "{}{mark}: ", quoted(&field.name))?;
            field.value.write(f, depth + 1)?;
            f.write_str(";\n")?;
        }
        if let Some(others) = &self.others {
            write!(f, "{:1$}[name: string]: ", "", 2 * (depth + 1))?;
            others.write(f, depth + 1)?;
            f.write_str(";\n")?;
        }
        write!(f, "{:1$}}}", "", 2 * depth)
    }
}

fn write_function(f: &mut fmt::Formatter<'_>, lists: &[Tuple], depth: usize) -> fmt::Result {
    f.write_str("(")?;
    match lists {
        [] => f.write_str("data: never")?,
        [list] if list.has_names() => list.write_parameters(f, depth)?,
        lists => {
            f.write_str("...data: ")?;
            for (index, list) in lists.iter().enumerate() {
                f.write_str(if index > 0 { " | " } else { "" })?;
                list.write(f, depth)?;
            }
        }
    }
    f.write_str(") => void")
}

fn write_joined(
    f: &mut fmt::Formatter<'_>,
    types: &[Type],
    operator: &str,
    depth: usize,
) -> fmt::Result {
    for (index, one) in types.iter().enumerate() {
        if index > 0 {
            f.write_str(operator)?;
        }
        one.write_tight(f, depth)?;
    }
    Ok(())
}

/// Lines about what follows, as a comment that editors show.
pub(crate) fn write_docs(f: &mut impl fmt::Write, docs: &[String], depth: usize) -> fmt::Result {
    let lines: Vec<_> = docs.iter().flat_map(|text| comment_lines(text)).collect();
    let margin = " ".repeat(2 * depth);
    match lines.as_slice() {
        [] => Ok(()),
        [line] => writeln!(f, "{margin}/** {line} */"),
        lines => {
            writeln!(f, "{margin}/**")?;
            for line in lines {
                writeln!(f, "{margin} * {line}")?;
            }
            writeln!(f, "{margin} */")
        }
    }
}
