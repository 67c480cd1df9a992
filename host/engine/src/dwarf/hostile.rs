//! Debug information that takes long to search, for tests. Each part is small enough to be read,
//! and is referred to many times.

type Sections = Vec<(String, Vec<u8>)>;

/// Bytes of the parts that are referred to many times.
const LONG: usize = 1 << 20;

/// Entries that refer to such a part. Each is a function that contains all wanted addresses.
const ENTRIES: usize = 2_000;

/// A range list, a text, or the like that each entry refers to is searched once per entry.
pub(super) fn all() -> Vec<(&'static str, Sections)> {
    vec![
        ("a list of base addresses", base_addresses()),
        ("names without an end", names()),
        ("files without an end", files()),
        ("many units with one table of lines", units()),
        ("many attributes without bytes", attributes()),
        ("a chain of units before an origin", origins()),
    ]
}

/// Declares the entries: 1 is a unit with an address, a length and a table of lines; 2 is a
/// function with a range list; 3 is one with a name in `.debug_str`; 4 is one inlined from an entry
/// of `.debug_info`.
fn abbreviations() -> Vec<u8> {
    [
        &[1, 0x11, 1, 0x11, 0x01, 0x12, 0x06, 0x10, 0x17, 0, 0][..],
        &[2, 0x2e, 0, 0x55, 0x17, 0, 0],
        &[3, 0x2e, 0, 0x11, 0x01, 0x12, 0x06, 0x03, 0x0e, 0, 0],
        &[4, 0x1d, 0, 0x11, 0x01, 0x12, 0x06, 0x31, 0x10, 0, 0],
        &[0],
    ]
    .concat()
}

fn number(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap().to_le_bytes()
}

/// An address and a length that contain all wanted addresses.
fn everywhere() -> Vec<u8> {
    [number(0), number(0x7fff_0000)].concat()
}

/// Returns a unit of DWARF 4 with these entries.
fn unit(entries: &[u8]) -> Vec<u8> {
    let root = [&[1][..], &everywhere(), &number(0)].concat();
    let content = [&[4, 0, 0, 0, 0, 0, 4][..], &root, entries, &[0]].concat();
    [&number(content.len())[..], &content].concat()
}

/// Returns a table of lines of DWARF 4 with the file `a` and these instructions.
fn lines(instructions: &[u8]) -> Vec<u8> {
    let header = [1, 1, 1, 0xfb, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0, b'a', 0, 0, 0, 0, 0];
    let content = [&[4, 0][..], &number(header.len()), &header, instructions].concat();
    [&number(content.len())[..], &content].concat()
}

fn sections(info: Vec<u8>, line: Vec<u8>, further: Option<(&str, Vec<u8>)>) -> Sections {
    let own = [(".debug_abbrev", abbreviations()), (".debug_info", info), (".debug_line", line)];
    own.into_iter().chain(further).map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

/// Functions with one list, of entries that contain no range.
fn base_addresses() -> Sections {
    let list: Vec<u8> = [0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0].repeat(LONG / 8);
    let function = [&[2][..], &number(0)].concat();
    sections(unit(&function.repeat(ENTRIES)), lines(&[]), Some((".debug_ranges", list)))
}

fn names() -> Sections {
    let function = [&[3][..], &everywhere(), &number(0)].concat();
    sections(unit(&function.repeat(ENTRIES)), lines(&[]), Some((".debug_str", vec![b'x'; LONG])))
}

/// Rows that contain all wanted addresses, with a file and a folder of DWARF 5.
fn files() -> Sections {
    let row = [&[0, 5, 2][..], &number(0), &[1, 2, 0x80, 0x80, 0x40, 0, 1, 1]].concat();
    let texts = [number(0), number(0)].concat();
    let folders = [&[1, 1, 0x1f, 2][..], &texts].concat();
    let file = [&number(0)[..], &[1]].concat();
    let files = [&[2, 1, 0x1f, 2, 0x0b, 2][..], &file, &file].concat();
    let fixed = [1, 1, 1, 0xfb, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1];
    let header = [&fixed[..], &folders, &files].concat();
    let content = [&[5, 0, 4, 0][..], &number(header.len()), &header, &row.repeat(ENTRIES)].concat();
    let table = [&number(content.len())[..], &content].concat();
    sections(unit(&[]), table, Some((".debug_line_str", vec![b'x'; LONG])))
}

/// Units with a common table of lines, which has instructions but no rows.
fn units() -> Sections {
    // Negates whether a row begins a statement.
    sections(unit(&[]).repeat(ENTRIES), lines(&vec![6; LONG]), None)
}

/// Entries with attributes of the form `DW_FORM_flag_present`.
fn attributes() -> Sections {
    let attributes = [0x3f_u8, 0x19].repeat(LONG / 64);
    let mut own = abbreviations();
    own.pop();
    own.extend([&[5, 0x34, 0][..], &attributes, &[0, 0, 0]].concat());
    let mut sections = sections(unit(&[5_u8].repeat(ENTRIES)), lines(&[]), None);
    sections[0].1 = own;
    sections
}

/// Inlined functions with an origin in the last of many units.
fn origins() -> Sections {
    let last = unit(&[]);
    let before: Vec<u8> = [&number(7)[..], &[4, 0, 0, 0, 0, 0, 4]].concat().repeat(ENTRIES);
    let entry = |origin: usize| [&[4][..], &everywhere(), &number(origin)].concat();
    let first = unit(&entry(0).repeat(ENTRIES)).len();
    // Behind the header of the last unit.
    let origin = first + before.len() + 11;
    sections([unit(&entry(origin).repeat(ENTRIES)), before, last].concat(), lines(&[]), None)
}

/// A row of a file, by its number, behind instructions that define the files from 2 on.
pub(super) fn defined_files(file: u8) -> Sections {
    // A name, and the numbers of its folder, its time and its size.
    let define = [0_u8, 6, 3, b'b', 0, 0, 0, 0];
    let row = [&[0, 5, 2][..], &number(0), &[4, file, 1, 2, 0x80, 0x80, 0x40, 0, 1, 1]].concat();
    sections(unit(&[]), lines(&[define.repeat(1_000), row].concat()), None)
}
