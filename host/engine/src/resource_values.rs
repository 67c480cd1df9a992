//! Converts the handles of resources within values, which can't pass from one store to another.
//! Between the stores, a handle is the number of its resource. Never knows who holds a resource.

use wasmtime::component::{ResourceAny, Type, Val};

/// Converts one handle, or the number in its place.
pub(crate) type Convert<'a> = &'a mut (dyn FnMut(Val, &Type) -> wasmtime::Result<Val> + Send);

/// Converts each handle in a value of this type. The depth of a type is limited.
pub(crate) fn convert(value: Val, ty: &Type, with: Convert<'_>) -> wasmtime::Result<Val> {
    let boxed = |value: Option<Box<Val>>, ty: Option<Type>, with: Convert<'_>| match (value, ty) {
        (Some(value), Some(ty)) => convert(*value, &ty, with).map(|value| Some(Box::new(value))),
        (value, _) => Ok(value),
    };
    Ok(match (value, ty) {
        (value, Type::Own(_) | Type::Borrow(_)) => with(value, ty)?,
        (Val::List(values), Type::List(list)) => Val::List(each(values, std::iter::repeat(list.ty()), with)?),
        (Val::FixedLengthList(values), Type::FixedLengthList(list)) => {
            Val::FixedLengthList(each(values, std::iter::repeat(list.ty()), with)?)
        }
        (Val::Tuple(values), Type::Tuple(tuple)) => Val::Tuple(each(values, tuple.types(), with)?),
        (Val::Record(fields), Type::Record(record)) => {
            let converted = fields.into_iter().zip(record.fields());
            let converted = converted.map(|((name, value), field)| Ok((name, convert(value, &field.ty, &mut *with)?)));
            Val::Record(converted.collect::<wasmtime::Result<_>>()?)
        }
        (Val::Variant(name, value), Type::Variant(variant)) => {
            let ty = variant.cases().find(|case| case.name == name).and_then(|case| case.ty);
            Val::Variant(name, boxed(value, ty, with)?)
        }
        (Val::Option(value), Type::Option(option)) => Val::Option(boxed(value, Some(option.ty()), with)?),
        (Val::Result(Ok(value)), Type::Result(result)) => Val::Result(Ok(boxed(value, result.ok(), with)?)),
        (Val::Result(Err(value)), Type::Result(result)) => Val::Result(Err(boxed(value, result.err(), with)?)),
        (Val::Map(pairs), Type::Map(map)) => {
            let converted = pairs.into_iter().map(|(key, value)| Ok((key, convert(value, &map.value(), &mut *with)?)));
            Val::Map(converted.collect::<wasmtime::Result<_>>()?)
        }
        (value, _) => value,
    })
}

fn each(values: Vec<Val>, types: impl Iterator<Item = Type>, with: Convert<'_>) -> wasmtime::Result<Vec<Val>> {
    values.into_iter().zip(types).map(|(value, ty)| convert(value, &ty, &mut *with)).collect()
}

/// The resources of a provider's instance that its current caller holds.
#[derive(Default)]
pub(crate) struct Lent {
    resources: Vec<Option<ResourceAny>>,
    /// Free numbers, for reuse.
    free: Vec<u32>,
}

impl Lent {
    /// Returns how many resources the caller holds.
    pub(crate) fn count(&self) -> usize {
        self.resources.len() - self.free.len()
    }

    /// Replaces a handle that the provider returned by a number.
    pub(crate) fn lend(&mut self, value: Val) -> wasmtime::Result<Val> {
        let Val::Resource(resource) = value else { return Ok(value) };
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                self.resources.push(None);
                u32::try_from(self.resources.len() - 1)?
            }
        };
        if let Some(place) = self.resources.get_mut(number as usize) {
            *place = Some(resource);
        }
        Ok(Val::U32(number))
    }

    /// Replaces a number from the caller by the handle of the resource.
    pub(crate) fn find(&mut self, value: Val, ty: &Type) -> wasmtime::Result<Val> {
        let Val::U32(number) = value else { return Ok(value) };
        if matches!(ty, Type::Own(_)) {
            return self.take(number).map(Val::Resource);
        }
        let resource = self.resources.get(number as usize).copied().flatten();
        resource.map(Val::Resource).ok_or_else(|| unknown(number))
    }

    /// Takes a resource that the caller gives back or drops.
    pub(crate) fn take(&mut self, number: u32) -> wasmtime::Result<ResourceAny> {
        let resource = self.resources.get_mut(number as usize).and_then(Option::take);
        let resource = resource.ok_or_else(|| unknown(number))?;
        self.free.push(number);
        Ok(resource)
    }
}

fn unknown(number: u32) -> wasmtime::Error {
    wasmtime::format_err!("the caller holds no resource {number}")
}
