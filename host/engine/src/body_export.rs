//! The functions of a plugin's export `isopod:plugin/body-handler`. Compares their types with those
//! of `isopod:plugin/middleware`. Never calls them.

use crate::{
    inspect::{BODY_HANDLER, ComponentInfo, MIDDLEWARE, Rejected},
    state::HostState,
};
use wasmtime::component::{
    Component, ComponentExportIndex, InstancePre, Type,
    types::{ComponentFunc, ComponentItem},
};

/// The indices of the functions in a component.
pub(crate) struct BodyExport {
    pub(crate) on_request_body: ComponentExportIndex,
    pub(crate) on_response_body: ComponentExportIndex,
}

impl BodyExport {
    /// Finds the functions; `None` if the component doesn't export the interface.
    pub(crate) fn find(info: &ComponentInfo, pre: &InstancePre<HostState>) -> Option<Result<Self, Rejected>> {
        let exported = |prefix: &str| info.exports.iter().find(|name| name.starts_with(prefix));
        let name = exported(BODY_HANDLER)?;
        let component = pre.component();
        let found = |function: &str, of_head: &str| {
            let malformed = |what| Rejected::Malformed { detail: format!("its export {name} has {what}") };
            let (body, index) =
                function_of(component, name, function).ok_or_else(|| malformed(format!("no function `{function}`")))?;
            match exported(MIDDLEWARE).and_then(|middleware| function_of(component, middleware, of_head)) {
                Some((head, _)) if !takes_body_of(&body, &head) => {
                    Err(malformed(format!("a function `{function}` whose type differs from the interface")))
                }
                _ => Ok(index),
            }
        };
        let on_request_body = found("on-request-body", "on-request");
        let both = on_request_body.and_then(|on_request_body| {
            Ok(Self { on_request_body, on_response_body: found("on-response-body", "on-response")? })
        });
        Some(both)
    }
}

/// Returns the type and the index of a function of an exported interface.
fn function_of(
    component: &Component,
    interface: &str,
    function: &str,
) -> Option<(ComponentFunc, ComponentExportIndex)> {
    let interface = component.get_export_index(None, interface)?;
    match component.get_export(Some(&interface), function)? {
        (ComponentItem::ComponentFunc(found), index) => Some((found, index)),
        _ => None,
    }
}

/// Returns whether `function` takes the arguments of `of_head` followed by a body, and returns the
/// decision of `of_head` with an optional body.
fn takes_body_of(function: &ComponentFunc, of_head: &ComponentFunc) -> bool {
    // The interface has no handles, and Wasmtime panics when it compares them without an instance.
    if !of_head.params().map(|(_, ty)| ty).chain(of_head.results()).all(|ty| is_plain(&ty)) {
        return false;
    }
    let arguments = |function: &ComponentFunc| -> Vec<Type> { function.params().map(|(_, ty)| ty).collect() };
    let (mut with_body, of_heads) = (arguments(function), arguments(of_head));
    let takes_body = with_body.pop().is_some_and(|last| is_bytes(&last)) && with_body == of_heads;
    takes_body && !function.async_() && decides_with_body(function, of_head) == Some(true)
}

/// Returns whether `function` returns the decision of `of_head` with an optional body. `None` if
/// either returns nothing.
fn decides_with_body(function: &ComponentFunc, of_head: &ComponentFunc) -> Option<bool> {
    let (Type::Result(result), Type::Result(of_head)) = (function.results().next()?, of_head.results().next()?) else {
        return Some(false);
    };
    let Type::Tuple(decided) = result.ok()? else { return Some(false) };
    let decided: Vec<Type> = decided.types().collect();
    let [decision, Type::Option(body)] = decided.as_slice() else { return Some(false) };
    Some(*decision == of_head.ok()? && is_bytes(&body.ty()) && result.err() == of_head.err())
}

/// Returns whether values of a type contain no handle. The recursion is bounded, because the
/// validation of a component limits the depth of its types.
fn is_plain(ty: &Type) -> bool {
    match ty {
        Type::List(list) => is_plain(&list.ty()),
        Type::Record(record) => record.fields().all(|field| is_plain(&field.ty)),
        Type::Tuple(tuple) => tuple.types().all(|ty| is_plain(&ty)),
        Type::Variant(variant) => variant.cases().all(|case| case.ty.is_none_or(|ty| is_plain(&ty))),
        Type::Option(option) => is_plain(&option.ty()),
        Type::Result(result) => result.ok().iter().chain(&result.err()).all(is_plain),
        Type::Own(_) | Type::Borrow(_) | Type::Future(_) | Type::Stream(_) | Type::ErrorContext => false,
        Type::Map(_) | Type::FixedLengthList(_) => false,
        _ => true,
    }
}

fn is_bytes(ty: &Type) -> bool {
    matches!(ty, Type::List(list) if list.ty() == Type::U8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compiles a component of these definitions and a core instance `$i` with the functions `head`
    /// and `body`.
    fn compiled(definitions: &str) -> Component {
        let text = format!(
            "(component
              (core module $m
                (memory (export \"memory\") 1)
                (func (export \"realloc\") (param i32 i32 i32 i32) (result i32) unreachable)
                (func (export \"head\") (param i32 i32 i32) (result i32) unreachable)
                (func (export \"body\") (param i32 i32 i32 i32 i32) (result i32) unreachable))
              (core instance $i (instantiate $m))
              {definitions})"
        );
        Component::new(&wasmtime::Engine::default(), wat::parse_str(text).unwrap()).unwrap()
    }

    /// Returns a component whose interface `x` has the functions `head` and `body`. `body` has this
    /// parameter and this result.
    fn component(body: &str, result: &str) -> Component {
        let lifted = |name: &str| {
            format!("(canon lift (core func $i \"{name}\") (memory $i \"memory\") (realloc (func $i \"realloc\")))")
        };
        let text = format!(
            "(func $head (param \"config\" string) (param \"request\" u32) (result (result u8 (error string))) {})
              (func $body (param \"config\" string) (param \"request\" u32) (param \"body\" {body}) (result {result})
                {})
              (instance $x (export \"head\" (func $head)) (export \"body\" (func $body)))
              (export \"x\" (instance $x))",
            lifted("head"),
            lifted("body"),
        );
        compiled(&text)
    }

    #[test]
    fn a_body_handler_has_the_types_of_the_middleware() {
        let bytes = "(list u8)";
        let expected = "(result (tuple u8 (option (list u8))) (error string))";
        let cases = [
            (bytes, expected, true),
            ("string", expected, false),
            ("(list u16)", expected, false),
            (bytes, "(result (tuple u16 (option (list u8))) (error string))", false),
            (bytes, "(result (tuple u8 (option string)) (error string))", false),
            (bytes, "(result (tuple u8 (option (list u8)) u8) (error string))", false),
            (bytes, "(result u8 (error string))", false),
            (bytes, "(result (tuple u8 (option (list u8))))", false),
            (bytes, "string", false),
        ];
        for (body, result, fits) in cases {
            let component = component(body, result);
            let [(head, _), (function, _)] = ["head", "body"].map(|name| function_of(&component, "x", name).unwrap());
            assert_eq!(takes_body_of(&function, &head), fits, "{body} {result}");
            assert!(!takes_body_of(&head, &head));
        }
    }

    #[test]
    fn types_with_handles_are_refused_without_a_comparison() {
        let function = |name: &str, arguments: &str, result: &str| {
            let lift = "(memory $i \"memory\") (realloc (func $i \"realloc\"))";
            let result = format!("(result (result {result} (error string)))");
            let parameters = format!("(param \"config\" string) (param \"request\" u32) {arguments} {result}");
            format!("(func ${name} {parameters} (canon lift (core func $i \"{name}\") {lift}))")
        };
        let text = format!(
            "(type $inner (resource (rep i32)))
              (export $r \"r\" (type $inner))
              {}
              {}
              (export \"head\" (func $head))
              (export \"body\" (func $body))",
            function("head", "", "(tuple (own $r) u8)"),
            function("body", "(param \"body\" (list u8))", "(tuple (tuple (own $r) u16) (option (list u8)))"),
        );
        let component = compiled(&text);
        let [head, body] = ["head", "body"].map(|name| match component.get_export(None, name).unwrap().0 {
            ComponentItem::ComponentFunc(function) => function,
            other => panic!("{other:?}"),
        });
        assert!(!takes_body_of(&body, &head));
    }
}
