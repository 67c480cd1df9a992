//! Finds import cycles between the modules of a folder. Pure: reads texts, never the disk.
//!
//! Each folder has a graph of its own. Its nodes are its files and subfolders, and the items of the
//! file with its name, of `lib.rs` or of `main.rs`. An edge is a path in the code of one node that
//! leads into another, however deep. A re-export is not an edge: paths through it lead to the
//! module that defines the item. Code for tests is ignored.

mod imports;

use super::{Finding, SourceFile};
use imports::{Imports, PathUse};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Folders that still have an import cycle. The list only ever gets shorter.
const NOT_YET_CLEAN: [&str; 1] = ["sdk/rust/src"];

/// Modules that are split into parts: the files of the folder extend the types of the file beside
/// it, so both may use each other. An entry without such a cycle fails the check.
const SPLIT: [&str; 13] = [
    "bench/src/events",
    "bench/src/neighbour",
    "host/engine/src/response_body",
    "host/policy/src/bundle",
    "host/policy/src/config_vars",
    "host/policy/src/manifest",
    "host/src/api/cloud_event",
    "host/src/config",
    "host/src/control/app_task",
    "host/src/control/plugins",
    "host/src/http/connections/line",
    "host/src/runtime/app",
    "xtask/src/tidy",
];

/// Modules whose imports are limited: folder, module, and what it may import from its siblings.
const LAYERS: [(&str, &str, &[&str]); 1] = [("host/src", "runtime", &["http"])];

/// The path of a module within its crate: `["runtime", "pool"]`.
type ModulePath = Vec<String>;

/// The modules of one crate.
struct Crate<'a> {
    /// The folder with `lib.rs` or `main.rs`.
    root: &'a str,
    modules: BTreeMap<ModulePath, Module<'a>>,
    /// The paths of all modules, including those within files.
    known: BTreeSet<ModulePath>,
}

struct Module<'a> {
    file: &'a str,
    imports: Imports,
}

/// A folder's graph: from node to node, with the first file and line that needs it.
type Graph = BTreeMap<String, BTreeMap<String, (String, usize)>>;

pub(super) fn broken(files: &[SourceFile]) -> Vec<Finding> {
    broken_except(files, &NOT_YET_CLEAN, &SPLIT)
}

fn broken_except(files: &[SourceFile], not_yet_clean: &[&str], split: &[&str]) -> Vec<Finding> {
    let roots: BTreeSet<&str> = files.iter().filter(|file| !file.is_below("examples")).filter_map(crate_root).collect();
    let crates: Vec<Crate<'_>> = roots.into_iter().map(|root| Crate::read(root, files)).collect();
    let remove = |folder: &str, list: &str| Finding {
        path: "xtask/src/tidy/modules.rs".to_owned(),
        line: 1,
        rule: format!("{folder} has no import cycle: remove it from {list}"),
    };
    let mut findings = Vec::new();
    for (folder, graph) in crates.iter().flat_map(|of| of.folders(split)) {
        findings.extend(layers(&folder, &graph));
        let cycles = cycles(&folder, &graph);
        match not_yet_clean.contains(&folder.as_str()) {
            false => findings.extend(cycles),
            true if cycles.is_empty() => findings.push(remove(&folder, "NOT_YET_CLEAN")),
            true => {}
        }
    }
    let whole: BTreeMap<String, Graph> = crates.iter().flat_map(|of| of.folders(&[])).collect();
    let has_cycle = |folder: &&&str| whole.get(**folder).is_some_and(|graph| !cycles(folder, graph).is_empty());
    findings.extend(split.iter().filter(|folder| !has_cycle(folder)).map(|folder| remove(folder, "SPLIT")));
    findings
}

fn crate_root(file: &SourceFile) -> Option<&str> {
    let root = file.path.strip_suffix("/lib.rs").or_else(|| file.path.strip_suffix("/main.rs"))?;
    root.ends_with("/src").then_some(root)
}

impl<'a> Crate<'a> {
    fn read(root: &'a str, files: &'a [SourceFile]) -> Self {
        let within = |file: &&SourceFile| file.is_rust() && file.is_below(root);
        let files: Vec<_> = files.iter().filter(within).map(|file| (module_path(root, &file.path), file)).collect();
        let mut children = BTreeMap::<ModulePath, BTreeSet<String>>::new();
        for (path, _) in &files {
            for depth in 0..path.len() {
                children.entry(path[..depth].to_vec()).or_default().insert(path[depth].clone());
            }
        }
        let mut modules = BTreeMap::<ModulePath, Module<'_>>::new();
        for (path, file) in files {
            let found = Imports::read(&file.text, &path, children.get(&path).unwrap_or(&BTreeSet::new()));
            let module = || Module { file: &file.path, imports: Imports::default() };
            modules.entry(path).or_insert_with(module).imports.extend(found);
        }
        let for_tests: Vec<_> = modules.values().flat_map(|module| module.imports.test_modules.clone()).collect();
        modules.retain(|path, _| !for_tests.iter().any(|test| path.starts_with(test)));
        let inline = modules.values().flat_map(|module| &module.imports.inline);
        let known = modules.keys().chain(inline).cloned().collect();
        Self { root, modules, known }
    }

    /// Returns the graph of each folder, without the edges between a module of `split` and its
    /// parts.
    fn folders(&self, split: &[&str]) -> Vec<(String, Graph)> {
        let is_part = |module: &ModulePath, of: &ModulePath| {
            let is_split = |own: &Module<'_>| split.contains(&own.file.trim_end_matches(".rs"));
            self.modules.get(of).is_some_and(is_split) && module.starts_with(of)
        };
        let mut graphs = BTreeMap::<ModulePath, Graph>::new();
        for (from, module) in &self.modules {
            for used in module.imports.paths.iter().filter(|used| !used.is_reexport) {
                let Some(to) = self.resolve(&used.module, &used.segments, &mut Vec::new()) else { continue };
                let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
                // The module's own items are a node named like the folder's module file.
                let own = |path: &ModulePath| match path.get(shared) {
                    Some(child) => child.clone(),
                    None => self.own_file(path),
                };
                let (source, target) = (own(from), own(&to));
                if source != target && !is_part(from, &to) && !is_part(&to, from) {
                    let graph = graphs.entry(from[..shared].to_vec()).or_default();
                    let place = || (module.file.to_owned(), used.line);
                    graph.entry(source).or_default().entry(target).or_insert_with(place);
                }
            }
        }
        let named = |(path, graph): (ModulePath, Graph)| ([vec![self.root.to_owned()], path].concat().join("/"), graph);
        graphs.into_iter().map(named).collect()
    }

    fn own_file(&self, path: &ModulePath) -> String {
        let file = self.modules.get(path).map_or("", |module| module.file);
        file.rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// Returns the module that defines what a path in `module` names, or `None` if it is outside
    /// the crate. Follows re-exports and the imports of other modules.
    fn resolve(&self, module: &ModulePath, segments: &[String], seen: &mut Vec<PathUse>) -> Option<ModulePath> {
        let mut at = module.clone();
        let mut segments = segments.iter();
        match segments.as_slice().first()?.as_str() {
            "crate" => {
                at.clear();
                segments.next();
            }
            "self" | "super" => {}
            child if self.is_module(&at, child) => {}
            _ => return None,
        }
        while let Some(segment) = segments.next() {
            match segment.as_str() {
                "self" => {}
                "super" => drop(at.pop()?),
                child if self.is_module(&at, child) => at.push(child.to_owned()),
                item => {
                    let binding = self.modules.get(&at).and_then(|module| module.imports.binding(&at, item));
                    let Some(binding) = binding.filter(|binding| !seen.contains(binding)) else { break };
                    seen.push(binding.clone());
                    let rest = segments.cloned();
                    let path: Vec<String> = binding.segments.iter().cloned().chain(rest).collect();
                    return self.resolve(&binding.module, &path, seen);
                }
            }
        }
        // A module within a file belongs to the file.
        while !self.modules.contains_key(&at) {
            at.pop()?;
        }
        Some(at)
    }

    fn is_module(&self, parent: &ModulePath, child: &str) -> bool {
        self.known.contains(&[parent.as_slice(), &[child.to_owned()]].concat())
    }
}

fn module_path(root: &str, file: &str) -> ModulePath {
    let relative = file[root.len() + 1..].trim_end_matches(".rs");
    let names = relative.split('/').filter(|name| !["mod", "lib", "main"].contains(name));
    names.map(str::to_owned).collect()
}

/// Returns the imports that [`LAYERS`] doesn't allow.
fn layers(folder: &str, graph: &Graph) -> Vec<Finding> {
    let limited = LAYERS.iter().filter(|(of, _, _)| *of == folder);
    let imports = limited.flat_map(|(_, module, allowed)| {
        let targets = graph.get(*module).into_iter().flatten();
        targets.filter(|(target, _)| !allowed.contains(&target.as_str())).map(move |found| (module, allowed, found))
    });
    let finding = |(module, allowed, (target, (path, line))): (&&str, &&[&str], (&String, &(String, usize)))| Finding {
        path: path.clone(),
        line: *line,
        rule: format!("{folder}/{module} imports nothing of {target}, only of {}", allowed.join(" and ")),
    };
    imports.map(finding).collect()
}

/// Returns one finding for each group of nodes that depend on each other: its shortest cycle.
fn cycles(folder: &str, graph: &Graph) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut reported = BTreeSet::new();
    for start in graph.keys() {
        let Some(cycle) = shortest_cycle(graph, start) else { continue };
        if cycle.iter().any(|node| reported.contains(*node)) {
            reported.extend(cycle);
            continue;
        }
        let steps = cycle.iter().zip(cycle.iter().cycle().skip(1));
        let steps: Vec<_> = steps.map(|(from, to)| (from, to, &graph[*from][*to])).collect();
        let text = steps.iter().map(|(from, to, (file, line))| format!("{from} needs {to} ({file}:{line})"));
        let text = text.collect::<Vec<_>>().join(", ");
        let (_, _, (path, line)) = steps[0];
        let rule = format!("import cycle in {folder}: {text}");
        findings.push(Finding { path: path.clone(), line: *line, rule });
        reported.extend(cycle);
    }
    findings
}

/// Returns the nodes of the shortest cycle through `start`.
fn shortest_cycle<'a>(graph: &'a Graph, start: &'a String) -> Option<Vec<&'a String>> {
    let mut before = BTreeMap::<&String, &String>::new();
    let mut next = VecDeque::from([start]);
    while let Some(node) = next.pop_front() {
        for target in graph.get(node).into_iter().flat_map(BTreeMap::keys) {
            if target == start {
                let mut cycle = vec![node];
                while let Some(previous) = before.get(cycle[cycle.len() - 1]) {
                    cycle.push(previous);
                }
                cycle.reverse();
                return Some(cycle);
            }
            if !before.contains_key(target) {
                before.insert(target, node);
                next.push_back(target);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(files: &[(&str, &str)]) -> Vec<String> {
        findings_if_split(files, &[])
    }

    fn findings_if_split(files: &[(&str, &str)], split: &[&str]) -> Vec<String> {
        let files: Vec<_> = files.iter().map(|(path, text)| SourceFile::new(path, text)).collect();
        broken_except(&files, &["a/src/old"], split).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_cycle_is_reported_with_files_and_lines() {
        let found = findings(&[
            ("a/src/lib.rs", "mod one;\nmod two;"),
            ("a/src/one.rs", "\nuse crate::two::Two;"),
            ("a/src/two.rs", "fn f() { super::one::g() }"),
        ]);
        let text =
            "a/src/one.rs:2: import cycle in a/src: one needs two (a/src/one.rs:2), two needs one (a/src/two.rs:1)";
        assert_eq!(found, [text]);
    }

    #[test]
    fn a_path_through_a_reexport_leads_to_the_module_that_defines_the_item() {
        let two = ("a/src/two.rs", "use crate::One;");
        let facade = ("a/src/lib.rs", "mod one; mod two; pub use one::One; use two::Two as Other;");
        assert!(findings(&[facade, ("a/src/one.rs", "pub struct One;"), two]).is_empty());
        assert_eq!(findings(&[facade, ("a/src/one.rs", "use crate::{Other}; pub struct One;"), two]).len(), 1);
        // A facade that uses what it re-exports depends on it.
        let used = ("a/src/lib.rs", "mod one; pub use one::One; pub struct Two(One);");
        assert_eq!(findings(&[used, ("a/src/one.rs", "use super::Two; pub struct One;")]).len(), 1);
    }

    #[test]
    fn each_level_of_nesting_is_checked() {
        let lib = ("a/src/lib.rs", "mod api; mod pool;");
        let deep = [("a/src/pool/slot.rs", "use super::lease::Lease;"), ("a/src/pool/lease.rs", "use super::slot;")];
        let pool = ("a/src/pool.rs", "mod slot; mod lease;");
        assert_eq!(findings(&[lib, pool, deep[0], deep[1]]).len(), 1);
        assert!(findings(&[lib, pool, deep[0]]).is_empty());
        let api = ("a/src/api.rs", "use crate::pool::slot::Slot;");
        assert!(findings(&[lib, pool, deep[0], api]).is_empty());
        assert_eq!(findings(&[lib, pool, ("a/src/pool/slot.rs", "use crate::api::f;"), api]).len(), 1);
    }

    #[test]
    fn only_the_parts_of_a_split_module_may_use_its_file_and_be_used_by_it() {
        let lib = ("a/src/lib.rs", "mod pool;");
        let child = ("a/src/pool/slot.rs", "use super::Pool; impl Pool {}");
        let parent = ("a/src/pool.rs", "mod slot; use slot::Slot; pub struct Pool;");
        assert!(findings_if_split(&[lib, parent, child], &["a/src/pool"]).is_empty());
        assert_eq!(findings(&[lib, parent, child]).len(), 1);
        // A child may extend its parent's type, unless the parent also needs the child's items.
        let plain = ("a/src/pool.rs", "mod slot; pub struct Pool;");
        assert!(findings(&[lib, plain, child]).is_empty());
        let rule = "a/src/pool has no import cycle: remove it from SPLIT";
        let found = findings_if_split(&[lib, plain, child], &["a/src/pool"]);
        assert_eq!(found, [format!("xtask/src/tidy/modules.rs:1: {rule}")]);
    }

    #[test]
    fn the_runtime_imports_nothing_of_the_control_plane() {
        let runtime = ("host/src/runtime/pool.rs", "use crate::{http, control::Control};");
        let others = [("host/src/main.rs", ""), ("host/src/http.rs", ""), ("host/src/control.rs", "")];
        let found = findings(&[runtime, others[0], others[1], others[2]]);
        let rule = "host/src/runtime imports nothing of control, only of http";
        assert_eq!(found, [format!("host/src/runtime/pool.rs:1: {rule}")]);
    }

    #[test]
    fn tests_and_other_crates_are_ignored() {
        let one = ("a/src/one.rs", "use super::two; #[cfg(test)] mod tests { use crate::two; }");
        let two = ("a/src/two.rs", "use tokio::one; #[cfg(all(test, unix))]\nuse super::one;\n#[cfg(test)] mod cases;");
        let cases = ("a/src/two/cases.rs", "use crate::one;");
        assert!(findings(&[("a/src/lib.rs", ""), one, two, cases]).is_empty());
        assert_eq!(findings(&[("a/src/lib.rs", ""), one, ("a/src/two.rs", "#[cfg(unix)] use super::one;")]).len(), 1);
    }

    #[test]
    fn a_visibility_is_not_an_import() {
        let one = ("a/src/one.rs", "use super::two; pub(in crate::two) struct One;");
        let two = ("a/src/two.rs", "pub(in crate::one) struct Two; pub(crate) use super::three::Three;");
        assert!(findings(&[("a/src/lib.rs", ""), one, two, ("a/src/three.rs", "")]).is_empty());
    }

    #[test]
    fn a_bound_of_captured_lifetimes_is_not_an_import() {
        let one = ("a/src/one.rs", "fn f() -> impl Sized + use<'_> { g() } fn h(two: Two) {} use super::two::Two;");
        let two = ("a/src/two.rs", "use super::one::f; pub struct Two;");
        assert_eq!(findings(&[("a/src/lib.rs", ""), one, two]).len(), 1);
    }

    #[test]
    fn paths_in_macros_are_found() {
        let one = ("a/src/one.rs", "use super::two;");
        let two = ("a/src/two.rs", "fn f() { vec![crate::one::g::<u8>()]; }");
        assert_eq!(findings(&[("a/src/lib.rs", ""), one, two]).len(), 1);
    }

    #[test]
    fn a_clean_folder_is_removed_from_the_list() {
        let files =
            |other| [("a/src/lib.rs", ""), ("a/src/old/one.rs", "use super::two;"), ("a/src/old/two.rs", other)];
        assert!(findings(&files("use super::one;")).is_empty());
        assert_eq!(findings(&files("")).len(), 1);
    }
}
