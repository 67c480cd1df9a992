//! The interfaces that an app imports from a provider, and those that a provider offers: their
//! functions with signatures as text, so that two components can be compared. Never compares a
//! component with a grant; never links anything.

use crate::{limits, offered};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wasmparser::{
    component_types::{
        ComponentAnyTypeId, ComponentDefinedType, ComponentEntityType, ComponentFuncTypeId, ComponentInstanceTypeId,
        ComponentValType,
    },
    types::Types,
};

/// The interfaces of a component that the host doesn't define, by name.
pub type Interfaces = BTreeMap<String, Interface>;

/// An interface with functions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The signatures of its functions, by name. Types are written out, so two equal signatures
    /// have equal types.
    pub functions: BTreeMap<String, String>,
    /// Why the host can't pass calls of this interface to another component, if it can't.
    pub unsupported: Option<String>,
}

impl Interface {
    /// Returns how a provider's interface differs from this one, which an app imports. A provider
    /// may have further functions.
    pub fn difference(&self, offered: &Self) -> Option<String> {
        if let Some(why) = self.unsupported.as_ref().or(offered.unsupported.as_ref()) {
            return Some(why.clone());
        }
        self.functions.iter().find_map(|(name, wanted)| match offered.functions.get(name) {
            None => Some(format!("it has no function `{name}`")),
            Some(found) if found != wanted => {
                Some(format!("its function `{name}` is `{found}`, and the app expects `{wanted}`"))
            }
            Some(_) => None,
        })
    }
}

/// Returns the interfaces of these imports or exports that the host doesn't define. Interfaces
/// without functions only name types, and are left out. The second value names the first item that
/// is not an interface.
pub(crate) fn of<'a>(
    names: &[String],
    types: &'a Types,
    entity: impl Fn(&'a Types, &str) -> Option<&'a ComponentEntityType>,
) -> (Interfaces, Option<String>) {
    let (mut interfaces, mut other) = (Interfaces::new(), None);
    for name in names.iter().filter(|name| !offered::is_known_package(name)) {
        match entity(types, name) {
            Some(ComponentEntityType::Instance(id)) => {
                let interface = interface(types, *id);
                if !interface.functions.is_empty() || interface.unsupported.is_some() {
                    interfaces.insert(name.clone(), interface);
                }
            }
            Some(ComponentEntityType::Type { .. }) => {}
            _ => other = other.or_else(|| Some(name.clone())),
        }
    }
    (interfaces, other)
}

fn interface(types: &Types, id: ComponentInstanceTypeId) -> Interface {
    let mut interface = Interface::default();
    let mut writer = Writer { types, text: String::new(), bytes: 0 };
    for (name, item) in &types[id].exports {
        match item.ty {
            ComponentEntityType::Func(function) => match writer.signature(function) {
                Ok(signature) => drop(interface.functions.insert(name.clone(), signature)),
                Err(Unsupported(why)) => {
                    interface.unsupported.get_or_insert(format!("its function `{name}` {why}"));
                }
            },
            ComponentEntityType::Type { created: ComponentAnyTypeId::Resource(_), .. } => {
                interface.unsupported.get_or_insert(format!("it has the resource `{name}`, which can't be passed on"));
            }
            ComponentEntityType::Type { .. } => {}
            _ => {
                interface.unsupported.get_or_insert(format!("its item `{name}` is not a function"));
            }
        }
    }
    interface
}

/// Why a type can't be passed on.
struct Unsupported(&'static str);

/// Writes types out as text.
struct Writer<'a> {
    types: &'a Types,
    text: String,
    /// The bytes written for all functions of the interface.
    bytes: usize,
}

impl Writer<'_> {
    fn signature(&mut self, id: ComponentFuncTypeId) -> Result<String, Unsupported> {
        let function = &self.types[id];
        if function.async_ {
            return Err(Unsupported("is asynchronous, which providers don't support"));
        }
        self.text.clear();
        self.push("func(")?;
        for (index, (name, ty)) in function.params.iter().enumerate() {
            self.separate(index)?;
            self.push(name.as_str())?;
            self.push(": ")?;
            self.value(ty)?;
        }
        self.push(")")?;
        if let Some(result) = &function.result {
            self.push(" -> ")?;
            self.value(result)?;
        }
        Ok(std::mem::take(&mut self.text))
    }

    /// Appends text. A type may be far longer written out than in the component, so the length is
    /// bounded.
    fn push(&mut self, text: &str) -> Result<(), Unsupported> {
        self.bytes += text.len();
        if self.bytes > limits::INTERFACE_TEXT_BYTES_MAX {
            return Err(Unsupported("has types that are too large"));
        }
        self.text.push_str(text);
        Ok(())
    }

    fn separate(&mut self, index: usize) -> Result<(), Unsupported> {
        if index > 0 { self.push(", ") } else { Ok(()) }
    }

    fn value(&mut self, ty: &ComponentValType) -> Result<(), Unsupported> {
        match ty {
            ComponentValType::Primitive(primitive) => self.primitive(*primitive),
            ComponentValType::Type(id) => self.defined(&self.types[*id]),
        }
    }

    fn primitive(&mut self, primitive: wasmparser::PrimitiveValType) -> Result<(), Unsupported> {
        match primitive {
            wasmparser::PrimitiveValType::ErrorContext => {
                Err(Unsupported("uses an error context, which can't be passed on"))
            }
            value => self.push(&value.to_string()),
        }
    }

    fn defined(&mut self, ty: &ComponentDefinedType) -> Result<(), Unsupported> {
        match ty {
            ComponentDefinedType::Primitive(primitive) => self.primitive(*primitive),
            ComponentDefinedType::Record(record) => {
                let fields = record.fields.iter().map(|(name, ty)| (name.as_str(), Some(ty)));
                self.named("record", fields)
            }
            ComponentDefinedType::Variant(variant) => {
                let cases = variant.cases.iter().map(|(name, case)| (name.as_str(), case.ty.as_ref()));
                self.named("variant", cases)
            }
            ComponentDefinedType::Flags(names) => self.named("flags", names.iter().map(|name| (name.as_str(), None))),
            ComponentDefinedType::Enum(names) => self.named("enum", names.iter().map(|name| (name.as_str(), None))),
            ComponentDefinedType::List { element, .. } => self.generic("list", [Some(element)]),
            ComponentDefinedType::Map { key, value, .. } => self.generic("map", [Some(key), Some(value)]),
            ComponentDefinedType::FixedLengthList { element, length, .. } => {
                self.push(&format!("list<{length}, "))?;
                self.value(element)?;
                self.push(">")
            }
            ComponentDefinedType::Tuple(tuple) => self.generic("tuple", tuple.types.iter().map(Some)),
            ComponentDefinedType::Option { ty, .. } => self.generic("option", [Some(ty)]),
            ComponentDefinedType::Result { ok, err, .. } => self.generic("result", [ok.as_ref(), err.as_ref()]),
            ComponentDefinedType::Own(_) | ComponentDefinedType::Borrow(_) => {
                Err(Unsupported("uses a resource, which can't be passed on"))
            }
            ComponentDefinedType::Future { .. } => Err(Unsupported("uses a future, which can't be passed on")),
            ComponentDefinedType::Stream { .. } => Err(Unsupported("uses a stream, which can't be passed on")),
        }
    }

    fn named<'t>(
        &mut self,
        kind: &str,
        items: impl Iterator<Item = (&'t str, Option<&'t ComponentValType>)>,
    ) -> Result<(), Unsupported> {
        self.push(kind)?;
        self.push(" { ")?;
        for (index, (name, ty)) in items.enumerate() {
            self.separate(index)?;
            self.push(name)?;
            if let Some(ty) = ty {
                self.push(": ")?;
                self.value(ty)?;
            }
        }
        self.push(" }")
    }

    fn generic<'t>(
        &mut self,
        kind: &str,
        items: impl IntoIterator<Item = Option<&'t ComponentValType>>,
    ) -> Result<(), Unsupported> {
        self.push(kind)?;
        self.push("<")?;
        for (index, ty) in items.into_iter().enumerate() {
            self.separate(index)?;
            match ty {
                Some(ty) => self.value(ty)?,
                None => self.push("_")?,
            }
        }
        self.push(">")
    }
}
