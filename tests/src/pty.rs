//! Runs a program whose standard error is a terminal, and captures its output. Never interprets
//! escape sequences.

use std::{
    ffi::CStr,
    fs::File,
    io::Read,
    os::{fd::AsRawFd, unix::ffi::OsStrExt, unix::fs::OpenOptionsExt},
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};

const ROWS: u16 = 40;
const COLUMNS: u16 = 120;

/// The length of a terminal's path is far below this.
const PATH_BYTES_MAX: usize = 256;

/// Runs a command to its end. The `stderr` of the output is all that the command wrote to its
/// terminal.
///
/// # Panics
/// If the command can't be run.
pub fn run_on_terminal(mut command: Command) -> Output {
    let (mut controller, terminal) = open();
    let drawing = thread::spawn(move || {
        let mut drawn = Vec::new();
        // Linux reports the end of the terminal as an error.
        let _ = controller.read_to_end(&mut drawn);
        drawn
    });
    command.env("TERM", "xterm-256color").env_remove("NO_COLOR").stdout(Stdio::piped()).stderr(terminal);
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    // The output ends when the last process closes the terminal.
    drop(command);
    let output = child.wait_with_output().expect("a child can be waited for");
    Output { stderr: drawing.join().expect("reading does not panic"), ..output }
}

/// Opens a pseudoterminal. Returns its two ends: one for the test and one for the program. A
/// program that another test starts at the same time inherits neither.
fn open() -> (File, File) {
    let open = |path: &Path| {
        let file = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path);
        file.unwrap_or_else(|error| panic!("{} cannot be opened: {error}", path.display()))
    };
    let controller = open(Path::new("/dev/ptmx"));
    let mut path = [0_u8; PATH_BYTES_MAX];
    // SAFETY: the descriptor is open, and the call writes at most `path.len()` bytes.
    let is_named = unsafe {
        libc::unlockpt(controller.as_raw_fd()) == 0
            && libc::ptsname_r(controller.as_raw_fd(), path.as_mut_ptr().cast(), path.len()) == 0
    };
    assert!(is_named, "the terminal has no path: {}", std::io::Error::last_os_error());
    let path = CStr::from_bytes_until_nul(&path).expect("the path ends with a zero");
    let terminal = open(Path::new(std::ffi::OsStr::from_bytes(path.to_bytes())));
    let size = libc::winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is a terminal, and the call only reads `size`.
    assert_eq!(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }, 0, "it has a size");
    (controller, terminal)
}
