//! The interfaces that an app imports from a provider, and those that a provider offers: their
//! functions with signatures as text, so that two components can be compared. Never compares a
//! component with a grant; never links anything.

use crate::{limits, offered};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use wasmparser::{
    component_types::{
        ComponentAnyTypeId, ComponentDefinedType, ComponentEntityType, ComponentFuncTypeId, ComponentInstanceTypeId,
        ComponentValType, ResourceId,
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
    /// Its resources: the name of each, and the interface with the name that defines it.
    #[serde(default)]
    pub resources: BTreeMap<String, String>,
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
        let missing = self.resources.iter().find(|(name, wanted)| offered.resources.get(*name) != Some(*wanted));
        if let Some((name, _)) = missing {
            return Some(format!("it doesn't define the resource `{name}` in the same interface"));
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

/// Returns whether a signature has resources. Names contain no `<`, so these texts occur only in
/// types.
pub(crate) fn has_resources(signature: &str) -> bool {
    signature.contains("own<") || signature.contains("borrow<")
}

/// The interfaces of a component take more than [`limits::INTERFACES_BYTES_MAX`].
pub(crate) struct TooLarge {
    /// The bytes that were read before the limit was exceeded.
    pub(crate) bytes: usize,
}

/// Reads the interfaces of one component, whose total size is bounded.
pub(crate) struct Reader<'a> {
    types: &'a Types,
    /// The memory that the interfaces take, and the text that was written for them.
    bytes: usize,
    /// The interface and name of each resource; `None` for a resource of the host.
    resources: HashMap<ResourceId, Option<String>>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(types: &'a Types) -> Self {
        Self { types, bytes: 0, resources: HashMap::new() }
    }

    /// Returns the interfaces of these imports or exports that the host doesn't define. Interfaces
    /// without functions only name types, and are left out. The second value names the first item
    /// that is not an interface.
    pub(crate) fn of(
        &mut self,
        names: &[String],
        entity: impl Fn(&'a Types, &str) -> Option<&'a ComponentEntityType>,
    ) -> Result<(Interfaces, Option<String>), TooLarge> {
        let (mut interfaces, mut other) = (Interfaces::new(), None);
        for name in names.iter().filter(|name| offered::is_known_package(name)) {
            if let Some(ComponentEntityType::Instance(id)) = entity(self.types, name) {
                self.note_resources_of_host(*id);
            }
        }
        for name in names.iter().filter(|name| !offered::is_known_package(name)) {
            match entity(self.types, name) {
                Some(ComponentEntityType::Instance(id)) => {
                    let interface = self.interface(name, *id)?;
                    let is_empty = interface.functions.is_empty() && interface.resources.is_empty();
                    if !is_empty || interface.unsupported.is_some() {
                        self.add(name.len() + size_of::<(String, Interface)>())?;
                        interfaces.insert(name.clone(), interface);
                    }
                }
                Some(ComponentEntityType::Type { .. }) => {}
                _ => other = other.or_else(|| Some(name.clone())),
            }
        }
        Ok((interfaces, other))
    }

    fn note_resources_of_host(&mut self, id: ComponentInstanceTypeId) {
        for item in self.types[id].exports.values() {
            if let ComponentEntityType::Type { created: ComponentAnyTypeId::Resource(id), .. } = item.ty {
                self.resources.entry(id.resource()).or_insert(None);
            }
        }
    }

    fn interface(&mut self, interface_name: &str, id: ComponentInstanceTypeId) -> Result<Interface, TooLarge> {
        let mut interface = Interface::default();
        for (name, item) in &self.types[id].exports {
            let why = match item.ty {
                ComponentEntityType::Func(function) => {
                    let mut writer = Writer {
                        types: self.types,
                        resources: &self.resources,
                        text: String::new(),
                        bytes: self.bytes,
                    };
                    let written = writer.signature(function);
                    self.bytes = writer.bytes;
                    match written {
                        Ok(signature) => {
                            self.add(name.len() + size_of::<(String, String)>())?;
                            interface.functions.insert(name.clone(), signature);
                            continue;
                        }
                        Err(Unwritten::TooLarge) => return Err(TooLarge { bytes: self.bytes }),
                        Err(Unwritten::Unsupported(why)) => format!("its function `{name}` {why}"),
                    }
                }
                ComponentEntityType::Type { created: ComponentAnyTypeId::Resource(id), .. } => {
                    // The first interface with a resource defines it; others use it.
                    let defined = || Some(format!("{interface_name}.{name}"));
                    match self.resources.entry(id.resource()).or_insert_with(defined) {
                        Some(identity) => {
                            let identity = identity.clone();
                            self.add(name.len() + identity.len() + size_of::<(String, String)>())?;
                            interface.resources.insert(name.clone(), identity);
                            continue;
                        }
                        None => format!("it uses the resource `{name}` of the host, which providers don't support"),
                    }
                }
                ComponentEntityType::Type { .. } => continue,
                _ => format!("its item `{name}` is not a function"),
            };
            if interface.unsupported.is_none() {
                self.add(why.len())?;
                interface.unsupported = Some(why);
            }
        }
        Ok(interface)
    }

    fn add(&mut self, bytes: usize) -> Result<(), TooLarge> {
        self.bytes += bytes;
        if self.bytes > limits::INTERFACES_BYTES_MAX { Err(TooLarge { bytes: self.bytes }) } else { Ok(()) }
    }
}

/// Why a function has no signature.
enum Unwritten {
    /// The function has a type, or is of a kind, that providers don't support.
    Unsupported(&'static str),
    /// The component's interfaces are too large.
    TooLarge,
}

/// Writes types out as text.
struct Writer<'a> {
    types: &'a Types,
    resources: &'a HashMap<ResourceId, Option<String>>,
    text: String,
    /// The bytes of all interfaces of the component.
    bytes: usize,
}

impl Writer<'_> {
    fn signature(&mut self, id: ComponentFuncTypeId) -> Result<String, Unwritten> {
        let function = &self.types[id];
        if function.async_ {
            return Err(Unwritten::Unsupported("is asynchronous, which providers don't support"));
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
    fn push(&mut self, text: &str) -> Result<(), Unwritten> {
        self.bytes += text.len();
        if self.bytes > limits::INTERFACES_BYTES_MAX {
            return Err(Unwritten::TooLarge);
        }
        self.text.push_str(text);
        Ok(())
    }

    fn separate(&mut self, index: usize) -> Result<(), Unwritten> {
        if index > 0 { self.push(", ") } else { Ok(()) }
    }

    fn value(&mut self, ty: &ComponentValType) -> Result<(), Unwritten> {
        match ty {
            ComponentValType::Primitive(primitive) => self.primitive(*primitive),
            ComponentValType::Type(id) => self.defined(&self.types[*id]),
        }
    }

    fn primitive(&mut self, primitive: wasmparser::PrimitiveValType) -> Result<(), Unwritten> {
        match primitive {
            wasmparser::PrimitiveValType::ErrorContext => {
                Err(Unwritten::Unsupported("uses an error context, which providers don't support"))
            }
            value => self.push(&value.to_string()),
        }
    }

    fn defined(&mut self, ty: &ComponentDefinedType) -> Result<(), Unwritten> {
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
            ComponentDefinedType::Own(id) => self.resource("own", id.resource()),
            ComponentDefinedType::Borrow(id) => self.resource("borrow", id.resource()),
            ComponentDefinedType::Future { .. } => {
                Err(Unwritten::Unsupported("uses a future, which providers don't support"))
            }
            ComponentDefinedType::Stream { .. } => {
                Err(Unwritten::Unsupported("uses a stream, which providers don't support"))
            }
        }
    }

    fn resource(&mut self, kind: &str, id: ResourceId) -> Result<(), Unwritten> {
        let Some(Some(identity)) = self.resources.get(&id) else {
            return Err(Unwritten::Unsupported("uses a resource of the host, which providers don't support"));
        };
        self.push(&format!("{kind}<{identity}>"))
    }

    fn named<'t>(
        &mut self,
        kind: &str,
        items: impl Iterator<Item = (&'t str, Option<&'t ComponentValType>)>,
    ) -> Result<(), Unwritten> {
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
    ) -> Result<(), Unwritten> {
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
