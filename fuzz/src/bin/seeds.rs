//! Writes the seeds of the corpora, from the golden files, and the dictionaries, from the method table. The same to the
//! byte every time: `cargo run --manifest-path fuzz/Cargo.toml --bin seeds`, then `git diff`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use amqp_proto::Instant;
use amqp_proto::trace::{Direction, FrameTap, TraceWriter};
use amqp_proto::wire::METHODS;

/// Longer ones slow the fuzzer down, which makes its own.
const LONGEST: usize = 400;

/// What others than a broker of 0-9-1 say first.
const STARTS: &[(&str, &[u8])] = &[
    ("start-amqp-1-0", b"AMQP\x03\x01\0\0"),
    ("start-http", b"HTTP/1.1 400 Bad Request\r\n"),
    ("start-tls-alert", &[0x15, 3, 3, 0, 2, 2, 70, 0]),
];

fn main() -> io::Result<()> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seeds = Seeds::default();
    for file in ["methods", "properties", "fields", "frames"] {
        let path = fuzz
            .join("../amqp-proto/tests/golden")
            .join(file)
            .with_extension("txt");
        for line in fs::read_to_string(path)?.lines() {
            let columns: Vec<&str> = line.split('\t').collect();
            // Each case has a line from each encoder that can say it; they agree.
            if let [_, kind, case, .., octets] = columns[..] {
                seeds.take_case(file, kind, case, &unhex(octets));
            }
        }
    }
    for (name, octets) in STARTS {
        seeds.keep("frame", (*name).into(), octets);
    }
    // 64 tables may stand in each other.
    for depth in [63, 64] {
        seeds.keep("field_table", format!("deep-{depth}-inside"), &nested(depth));
    }
    seeds.write(&fuzz.join("corpus"))?;
    dictionaries(&fuzz.join("dictionaries"))
}

/// Octets by target and name.
#[derive(Default)]
struct Seeds(BTreeMap<(&'static str, String), Vec<u8>>);

impl Seeds {
    /// Keeps the cases of most variety: whole frames for `frame`, payloads for the others.
    fn take_case(&mut self, file: &str, kind: &str, case: &str, octets: &[u8]) {
        let name =
            |case: &str| format!("golden-{kind}-{case}").replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        match file {
            "methods" if case == "full" || (case == "default" && octets.len() == 12) => {
                self.keep("method", name(case), payload(octets));
                if kind.starts_with("connection.") {
                    self.keep("trace", name(case), &traced(octets));
                }
                if kind.starts_with("basic.") {
                    self.keep("frame", name(case), octets);
                }
            }
            "properties" => {
                if case.starts_with("all") || case.starts_with("alone:") || case == "none:2^63" {
                    self.keep("content_header", name(case), payload(octets));
                }
                if case.starts_with("all") || case == "none:0" {
                    self.keep("frame", name(case), octets);
                }
            }
            "fields" => self.keep("field_table", name(case), octets),
            "frames" => {
                self.keep("frame", name(case), octets);
                self.keep("trace", name(case), &traced(octets));
            }
            _ => {}
        }
    }

    fn keep(&mut self, target: &'static str, name: String, octets: &[u8]) {
        if octets.len() <= LONGEST {
            self.0.insert((target, name), octets.to_vec());
        }
    }

    /// Replaces what an earlier run of this wrote.
    fn write(&self, corpus: &Path) -> io::Result<()> {
        for ((target, name), octets) in &self.0 {
            fs::create_dir_all(corpus.join(target))?;
            fs::write(corpus.join(target).join(name), octets)?;
        }
        for stale in self.stale(corpus)? {
            fs::remove_file(stale)?;
        }
        println!("{} seeds", self.0.len());
        Ok(())
    }

    fn stale(&self, corpus: &Path) -> io::Result<Vec<PathBuf>> {
        let mut stale = Vec::new();
        for target in ["frame", "method", "content_header", "field_table", "trace"] {
            for entry in fs::read_dir(corpus.join(target))? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                let is_ours = ["golden-", "start-", "deep-"]
                    .iter()
                    .any(|prefix| name.starts_with(prefix));
                if is_ours && !self.0.contains_key(&(target, name.clone())) {
                    stale.push(corpus.join(target).join(name));
                }
            }
        }
        Ok(stale)
    }
}

/// Arrays and tables by turns, with as many inside of the outermost.
fn nested(inside: usize) -> Vec<u8> {
    let mut octets = Vec::new();
    for level in (0..inside).rev() {
        // In a table, an empty key stands in front.
        let start: &[u8] = if level % 2 == 0 { b"\0A" } else { b"F" };
        octets = [start, &(octets.len() as u32).to_be_bytes(), &octets].concat();
    }
    octets
}

/// A trace of a frame that came, went, and found no room.
fn traced(frame: &[u8]) -> Vec<u8> {
    let mut writer = TraceWriter::new(0).with_secrets();
    let now = Instant::from_nanos(1_000_000_000);
    writer.frame(now, Direction::Received, 1, frame);
    writer.frame(now, Direction::Sent, 1, frame);
    writer.frame(now, Direction::Sent, 1, &[0; 5000]);
    writer.take()
}

/// What is between the header and the end octet.
fn payload(frame: &[u8]) -> &[u8] {
    &frame[7..frame.len() - 1]
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).expect("hex") as u8;
    text.as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

fn dictionaries(folder: &Path) -> io::Result<()> {
    let mut methods = String::from("# Class and method numbers.\n");
    for spec in METHODS {
        let octets = [spec.id.class.to_be_bytes(), spec.id.method.to_be_bytes()].concat();
        let name = spec.name.replace(['.', '-'], "_");
        writeln!(methods, "{name}={}", quoted(&octets)).expect("a string takes everything");
    }
    let mut fields = String::from("# Field types, each with an empty key in front, and lengths.\n");
    for tag in *b"tbBsuUIilLfdDSxTAFV" {
        writeln!(fields, "{}", quoted(&[0, tag])).expect("a string takes everything");
    }
    for length in [
        [0, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 0, 7],
        [0xFF; 4],
        [0x80, 0, 0, 0],
    ] {
        writeln!(fields, "{}", quoted(&length)).expect("a string takes everything");
    }
    let mut frames =
        String::from("# Frame types on a channel, what the frame's end looks like, the protocol header.\n");
    for start in [[1, 0, 1], [2, 0, 1], [3, 0, 1], [8, 0, 0], [1, 0, 0]] {
        writeln!(frames, "{}", quoted(&start)).expect("a string takes everything");
    }
    for octets in [
        &[0xCE][..],
        &[8, 0, 0, 0, 0, 0, 0, 0xCE],
        b"AMQP\0\0\x09\x01",
        b"AMQP",
        &[0x15, 3, 3],
    ] {
        writeln!(frames, "{}", quoted(octets)).expect("a string takes everything");
    }
    let header = "# Class and weight; sets of property flags.\n\"\\x00\\x3c\\x00\\x00\"\n\"\\xff\\xfc\"\n\"\\x20\\x00\"\n\"\\x90\\x00\"\n";
    fs::create_dir_all(folder)?;
    fs::write(
        folder.join("frame.dict"),
        [&frames, &methods[..], header, &fields].concat(),
    )?;
    fs::write(folder.join("method.dict"), [&methods[..], &fields].concat())?;
    fs::write(folder.join("content_header.dict"), [header, &fields].concat())?;
    fs::write(folder.join("field_table.dict"), &fields)
}

fn quoted(octets: &[u8]) -> String {
    let escaped: String = octets.iter().map(|octet| format!("\\x{octet:02x}")).collect();
    format!("\"{escaped}\"")
}
