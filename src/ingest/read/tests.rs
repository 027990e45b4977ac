//! Whole sources read in blocks of every size, against independent readers.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BinaryArray, Date32Array, DictionaryArray, Float32Array, Float64Array, Int64Array, LargeStringArray,
    RecordBatch, StringArray, StringViewArray, TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use proptest::prelude::*;

use super::*;

/// User, item, time, weight, event.
type Seen = (String, String, Option<i64>, Option<f32>, Option<String>);

#[derive(Default)]
struct Collected {
    rows: Vec<Seen>,
    bad: Vec<BadRow<'static>>,
}

impl RowSink for Collected {
    type Error = std::convert::Infallible;

    fn row(&mut self, row: Row<'_>) -> Result<(), Self::Error> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        self.rows.push((text(row.user), text(row.item), row.time, row.weight, row.event.map(text)));
        Ok(())
    }

    fn bad(&mut self, bad: BadRow<'_>) -> Result<(), Self::Error> {
        self.bad.push(bad.into_owned());
        Ok(())
    }
}

fn read_file(path: &Path, options: &ReadOptions, limits: Limits) -> Result<Collected, ReadError> {
    let mut all = Collected::default();
    let mut scratch = Scratch::default();
    for source in sources(&[Input::Path(path.into())], options)? {
        let mut consumed = 0;
        let mut blocks = 0;
        for block in open(&source, options, limits)? {
            let block = block?;
            blocks += 1;
            consumed += block.consumed();
            let before = (all.rows.len() as u64, all.bad.len() as u64);
            let count = block.parse(&mut scratch, &mut all).unwrap();
            assert_eq!((before.0 + count.good, before.1 + count.bad), (all.rows.len() as u64, all.bad.len() as u64));
        }
        assert!(blocks == 0 || Some(consumed) == source.bytes(), "{consumed} of {:?}", source.bytes());
    }
    Ok(all)
}

fn read_in(name: &str, data: &[u8], options: &ReadOptions, block_bytes: usize) -> Result<Collected, ReadError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, data).unwrap();
    read_file(&path, options, Limits { block_bytes, ..Limits::default() })
}

/// Reads with blocks of several sizes, which must make no difference.
fn read(name: &str, data: impl AsRef<[u8]>, options: &ReadOptions) -> Collected {
    let whole = read_in(name, data.as_ref(), options, 1 << 20).unwrap();
    for block_bytes in [1, 7, 64] {
        let parts = read_in(name, data.as_ref(), options, block_bytes).unwrap();
        assert_eq!(parts.rows, whole.rows, "blocks of {block_bytes} bytes");
        let bad = |all: &Collected| -> Vec<_> {
            all.bad.iter().map(|bad| (bad.place, bad.reason.clone(), bad.raw.clone())).collect()
        };
        assert_eq!(bad(&parts), bad(&whole), "blocks of {block_bytes} bytes");
    }
    whole
}

fn fails(name: &str, data: impl AsRef<[u8]>, options: &ReadOptions) -> String {
    read_in(name, data.as_ref(), options, 1 << 20).err().expect("an error").to_string()
}

fn pairs(collected: &Collected) -> Vec<(&str, &str)> {
    collected.rows.iter().map(|row| (row.0.as_str(), row.1.as_str())).collect()
}

fn reasons(collected: &Collected) -> Vec<(Place, String)> {
    collected.bad.iter().map(|bad| (bad.place, bad.reason.to_string())).collect()
}

fn named(name: &str) -> Option<Column> {
    Some(Column::Name(name.into()))
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn csv_with_everything_the_format_allows() {
    let text = "\u{feff}\r\nuser,item,timestamp,rating\r\nu1,i1,5,1\r\n\r\n\"u,2\",\"i\"\"2\",6,2\r\n\"u\n3\",ï3,7,3";
    let options = ReadOptions { weight: named("rating"), ..Default::default() };
    let seen = read("a.csv", text, &options);
    let row = |user: &str, item: &str, time, weight| (user.into(), item.into(), Some(time), Some(weight), None);
    let expected = [row("u1", "i1", 5000, 1.0), row("u,2", "i\"2", 6000, 2.0), row("u\n3", "ï3", 7000, 3.0)];
    assert_eq!(seen.rows, expected);
    assert!(seen.bad.is_empty());
}

#[test]
fn delimiters_and_headers_are_found() {
    let options = ReadOptions::default();
    assert_eq!(pairs(&read("u.data", "196\t242\t3\n186\t302\t3\n", &options)), [("196", "242"), ("186", "302")]);
    assert_eq!(pairs(&read("r.dat", "1::7::5\n2::8::4\n", &options)), [("1", "7"), ("2", "8")]);
    assert_eq!(pairs(&read("a.tsv", "user\titem\n0\t0\n", &options)), [("0", "0")]);
    assert_eq!(pairs(&read("a.csv", "itemid;uid\ni;u\n", &options)), [("u", "i")]);
    assert_eq!(pairs(&read("a.csv", "a,b\nc,d\n", &options)), [("a", "b"), ("c", "d")]);
    let options = ReadOptions { header: Some(true), ..Default::default() };
    assert_eq!(pairs(&read("a.csv", "a,b\nc,d\n", &options)), [("c", "d")]);
    let options = ReadOptions { header: Some(false), ..Default::default() };
    assert_eq!(pairs(&read("a.csv", "user,item\nc,d\n", &options)), [("user", "item"), ("c", "d")]);
    let options = ReadOptions { delimiter: Some("<>".parse().unwrap()), ..Default::default() };
    assert_eq!(pairs(&read("a", "a<b<>\"c<>d\n", &options)), [("a<b", "\"c")]);
    let options = ReadOptions { quotes: false, ..Default::default() };
    assert_eq!(pairs(&read("a.csv", "\"a,b\nc,d\"\n", &options)), [("\"a", "b"), ("c", "d\"")]);
}

#[test]
fn bad_rows_are_named_and_the_others_read() {
    let long = "x".repeat(65_536);
    let text = format!(
        "user,item,time,weight\nu,i,1,1\nu,i\n,i,1,1\n\"u\n\",,1,1\nu,{long},1,1\n\nu,i,soon,1\nu,i,1e18,1\nu,i,1,NaN\n\
         u,i,1,-1\nu,i,1,x\nlast,i,1,1\n\"open,i,1,1\n"
    );
    let options = ReadOptions { weight: named("weight"), ..Default::default() };
    let seen = read("a.csv", text, &options);
    assert_eq!(pairs(&seen), [("u", "i"), ("last", "i")]);
    let expected = [
        (3, "too few fields: found 2, needed 4"),
        (4, "the user id is empty"),
        (5, "the item id is empty"),
        (7, "the item id has 65536 bytes; the longest possible is 65535"),
        (9, "the time 'soon' cannot be read as seconds, milliseconds or a date such as 2024-01-31T12:00:00Z"),
        (10, "the time '1e18' is out of range (years 1 to 9999); check its unit"),
        (11, "the weight is NaN"),
        (12, "the weight '-1' is negative"),
        (13, "the weight 'x' is not a number"),
        (15, "a quoted field is never closed"),
    ];
    let expected: Vec<_> = expected.iter().map(|(line, text)| (Place::Line(*line), (*text).to_owned())).collect();
    assert_eq!(reasons(&seen), expected);
    assert_eq!(&*seen.bad[0].raw, b"u,i");
    assert_eq!(&*seen.bad[2].raw, b"\"u\n\",,1,1");
    assert!(seen.bad[0].to_string().ends_with("a.csv, line 3: too few fields: found 2, needed 4"));
}

#[test]
fn invalid_utf8_is_bad_only_in_columns_that_are_read() {
    let seen = read("a.csv", b"user,item,note\nu,\xff,x\n\xc3\xa9,i,\xff\n", &ReadOptions::default());
    assert_eq!(pairs(&seen), [("é", "i")]);
    assert_eq!(reasons(&seen), [(Place::Line(2), "the item is not valid UTF-8".into())]);
}

#[test]
fn sources_that_are_no_logs_are_refused() {
    let options = ReadOptions::default();
    assert!(fails("a.csv", b"a,b\n\0\0", &options).contains("NUL bytes"));
    assert!(fails("a.csv", b"\xff\xfeu\0", &options).contains("UTF-16"));
    assert!(fails("a.csv", b"PK\x03\x04", &options).contains("zip"));
    assert!(fails("a.csv", b"PAR1", &options).contains("--format parquet"));
    assert!(fails("a.parquet", b"PAR1", &options).contains("cannot be read as Parquet"));
    assert!(fails("a.parquet", b"", &options).contains("cannot be read as Parquet"));
    assert!(fails("a.csv", "lonely\nwords\n", &options).contains("no delimiter found"));
    assert!(fails("a.ndjson", "[\n{\"user\":1}]", &options).contains("JSON array"));
    assert!(fails("a.csv", "user,thing\n", &options).contains("'user', 'thing'"));
    for name in ["a.csv", "a.tsv", "a.ndjson", "a.txt"] {
        for text in ["", "\n\r\n", "\u{feff}"] {
            assert!(read(name, text, &options).rows.is_empty(), "{name}");
        }
    }
    assert!(read("a.csv", "user,item\n", &options).rows.is_empty());
}

#[test]
fn endless_records_are_refused_with_their_line() {
    let mut text = b"user,item\nu,i\n".to_vec();
    text.extend(b"u,i\n".repeat(50_000));
    text.extend(b"\"open,");
    text.extend(b"u,i\n".repeat(50_000));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    std::fs::write(&path, text).unwrap();
    let limits = Limits { block_bytes: 1000, record_bytes: 100_000 };
    let error = read_file(&path, &ReadOptions::default(), limits).err().unwrap().to_string();
    assert!(error.contains("line 50003 begins a record of more than 100000 bytes"), "{error}");
    assert!(error.contains("--no-quotes"));
    std::fs::write(&path, vec![b'x'; 200_000]).unwrap();
    let error = read_file(&path, &ReadOptions::default(), limits).err().unwrap().to_string();
    assert!(error.contains("line 1 begins a record"), "{error}");
}

#[test]
fn truncated_compression_is_no_silent_end() {
    let text: String = (0..100_000).map(|n| format!("u{n},i{}\n", n * 7 % 1000)).collect();
    for (name, data) in
        [("a.csv.gz", gzip(text.as_bytes())), ("a.csv.zst", zstd::encode_all(text.as_bytes(), 1).unwrap())]
    {
        let options = ReadOptions::default();
        assert_eq!(read_in(name, &data, &options, 4096).unwrap().rows.len(), 100_000);
        let error = fails(name, &data[..data.len() / 2], &options);
        assert!(error.contains(name) && error.contains("truncated"), "{error}");
        let lines: u64 = error.split("after ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!((10_000..90_000).contains(&lines), "{error}");
        // What is not compressed although its name says so is read all the same.
        assert_eq!(read_in(name, text.as_bytes(), &options, 4096).unwrap().rows.len(), 100_000);
    }
}

#[test]
fn json_objects_a_line() {
    let text = concat!(
        "{\"user_id\":\"u\\u00e91\",\"item_id\":7,\"ts\":1700000000,\"x\":[1,{\"user_id\":2}]}\r\n\n",
        " {\"ts\":\"2023-11-14T22:13:20Z\",\"item_id\":18446744073709551615,\"user_id\":-3,\"more\":null} \n",
        "{\"ts\":1700000000.5,\"item_id\":\"a\\nb\",\"user_id\":\"c\"}"
    );
    let seen = read("a.ndjson", text, &ReadOptions::default());
    let row = |user: &str, item: &str, time| (user.into(), item.into(), Some(time), None, None);
    assert_eq!(
        seen.rows,
        [
            row("ué1", "7", 1_700_000_000_000),
            row("-3", "18446744073709551615", 1_700_000_000_000),
            row("c", "a\nb", 1_700_000_000_500),
        ]
    );
}

#[test]
fn json_keys_reach_into_objects() {
    let options = ReadOptions {
        user: named("event.user"),
        item: named("event.item.id"),
        weight: named("w"),
        event: named("a.b"),
        ..Default::default()
    };
    let text = concat!(
        "{\"event\":{\"item\":{\"id\":1},\"user\":\"u\"},\"w\":2,\"a.b\":\"click\"}\n",
        "{\"a\":{\"b\":\"view\"},\"event.user\":\"v\",\"w\":\"1.5\",\"event\":{\"item\":{\"id\":\"i\"}}}\n",
        "{\"event\":7,\"w\":1,\"a.b\":\"x\"}\n",
    );
    let seen = read("a.jsonl", text, &options);
    let row = |user: &str, item: &str, weight, event: &str| {
        (user.into(), item.into(), None, Some(weight), Some(event.to_owned()))
    };
    assert_eq!(seen.rows, [row("u", "1", 2.0, "click"), row("v", "i", 1.5, "view")]);
    assert_eq!(
        reasons(&seen),
        [(Place::Line(3), "no key 'event.user' for the user; the keys are: event, w, a.b".into())]
    );
}

#[test]
fn json_rows_that_cannot_be_used() {
    let options = ReadOptions { weight: named("w"), ..Default::default() };
    let text = b"{\"user\":1,\"item\":2,\"w\":1}\n{\"user\":1.5,\"item\":2,\"w\":1}\n{\"user\":true,\"item\":2,\"w\":1}\n\
        {\"user\":null,\"item\":2,\"w\":1}\n{\"user\":\"\",\"item\":2,\"w\":1}\n{\"user\":1,\"item\":2}\n{\"user\":1,\n\
        []\n{\"user\":1,\"item\":2,\"w\":-1}\n{\"user\":1,\"item\":2,\"w\":{}}\n{\"user\":\"\xff\",\"item\":2,\"w\":1}\n\
        {\"user\":1,\"item\":2,\"w\":1}}\n";
    let seen = read("a.ndjson", text, &options);
    assert_eq!(seen.rows.len(), 1);
    let found = reasons(&seen);
    let expected = [
        (2, "the user is a number with a fraction or beyond 64 bits; it must be a string or an integer"),
        (3, "the user is a boolean; it must be a string or an integer"),
        (4, "the user is null; it must be a string or an integer"),
        (5, "the user id is empty"),
        (6, "no key 'w' for the weight; the keys are: user, item"),
        (7, "not a JSON object: EOF while parsing a value (column 10)"),
        (8, "not a JSON object: invalid type: sequence, expected an object (column 0)"),
        (9, "the weight '-1' is negative"),
        (10, "the weight is an object; it must be a number"),
        (11, "not a JSON object: invalid unicode code point (column 11)"),
        (12, "not a JSON object: trailing characters (column 29)"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((place, reason), (line, text)) in found.iter().zip(expected) {
        assert_eq!(*place, Place::Line(line));
        let stem = text.split(" (column").next().unwrap();
        assert!(reason.starts_with(stem), "{reason} / {text}");
    }
    let options = ReadOptions { user: Some(Column::Position(1)), ..Default::default() };
    assert!(fails("a.ndjson", "{\"user\":1}", &options).contains("only names"));
    assert!(fails("a.ndjson", "{\"a\":1,\"b\":{\"c\":2}}", &ReadOptions::default()).contains("'a', 'b.c'"));
}

fn write_parquet(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn parquet_columns_of_many_types() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let users: Vec<(ArrayRef, [&str; 2])> = vec![
        (Arc::new(StringArray::from(vec!["a", "é"])), ["a", "é"]),
        (Arc::new(LargeStringArray::from(vec!["a", "b"])), ["a", "b"]),
        (
            Arc::new(StringViewArray::from(vec!["a", "a string beyond twelve bytes"])),
            ["a", "a string beyond twelve bytes"],
        ),
        (Arc::new(["a", "b"].into_iter().collect::<DictionaryArray<Int32Type>>()), ["a", "b"]),
        (Arc::new(BinaryArray::from(vec![&b"a"[..], b"b"])), ["a", "b"]),
        (Arc::new(Int64Array::from(vec![-1, i64::MAX])), ["-1", "9223372036854775807"]),
        (Arc::new(UInt64Array::from(vec![0, u64::MAX])), ["0", "18446744073709551615"]),
    ];
    let second = 1_700_000_000i64;
    let times: Vec<(ArrayRef, i64)> = vec![
        (Arc::new(Int64Array::from(vec![second; 2])), second * 1000),
        (Arc::new(Float64Array::from(vec![second as f64 + 0.25; 2])), second * 1000 + 250),
        (Arc::new(UInt32Array::from(vec![second as u32; 2])), second * 1000),
        (Arc::new(TimestampMicrosecondArray::from(vec![second * 1_000_000; 2])), second * 1000),
        (Arc::new(TimestampMicrosecondArray::from(vec![1_000_000; 2]).with_timezone("+02:00")), 1000),
        (Arc::new(Date32Array::from(vec![19_723; 2])), 1_704_067_200_000),
        (Arc::new(StringArray::from(vec!["2024-01-01T00:00:00Z"; 2])), 1_704_067_200_000),
    ];
    let options = ReadOptions { weight: named("rating"), ..Default::default() };
    for ((user, names), (time, milliseconds)) in users.into_iter().zip(times) {
        let item: ArrayRef = Arc::new(UInt32Array::from(vec![7, 8]));
        let rating: ArrayRef = Arc::new(Float32Array::from(vec![0.5, 4.0]));
        let other: ArrayRef = Arc::new(StringArray::from(vec!["not", "read"]));
        write_parquet(
            &path,
            vec![("other", other), ("rating", rating), ("user", user), ("item", item), ("timestamp", time)],
        );
        let seen = read_file(&path, &options, Limits::default()).unwrap();
        let row = |at: usize, item: &str, weight| -> Seen {
            (names[at].into(), item.into(), Some(milliseconds), Some(weight), None)
        };
        assert_eq!(seen.rows, [row(0, "7", 0.5), row(1, "8", 4.0)]);
    }
}

#[test]
fn parquet_nulls_are_bad_rows_and_damage_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let user: ArrayRef =
        Arc::new(Int64Array::from((0..70_000).map(|n| (n != 40_000).then_some(n)).collect::<Vec<_>>()));
    let item: ArrayRef = Arc::new(StringArray::from_iter_values((0..70_000).map(|n| format!("i{n}"))));
    write_parquet(
        &path,
        vec![("user", user), ("item", item), ("flag", Arc::new(Float64Array::from(vec![0.5; 70_000])))],
    );
    let options = ReadOptions::default();
    let seen = read_file(&path, &options, Limits::default()).unwrap();
    assert_eq!(seen.rows.len(), 69_999);
    assert_eq!(seen.rows[40_000].0, "40001");
    assert_eq!(reasons(&seen), [(Place::Row(40_001), "the user is null; it must be a string or an integer".into())]);
    assert_eq!(&*seen.bad[0].raw, b"user=null, item=i40000");

    let says = |options: &ReadOptions| read_file(&path, options, Limits::default()).err().unwrap().to_string();
    let options = ReadOptions { user: named("flag"), ..options };
    assert!(says(&options).contains("column 'flag' has type Float64, which cannot be read as user"));
    let options = ReadOptions { user: named("absent"), ..options };
    assert!(says(&options).contains("its 3 columns are 'user', 'item', 'flag'"));

    let whole = std::fs::read(&path).unwrap();
    let options = ReadOptions::default();
    for length in [0, 4, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(says(&options).contains("cannot be read as Parquet"), "{length} bytes");
    }
    std::fs::write(&path, gzip(&whole)).unwrap();
    assert!(says(&options).contains("decompress the file first"));
}

#[test]
fn no_flipped_bit_in_a_parquet_footer_is_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let user: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
    let item: ArrayRef = Arc::new(StringArray::from_iter_values((0..100).map(|n| format!("i{n}"))));
    write_parquet(&path, vec![("user", user), ("item", item)]);
    let whole = std::fs::read(&path).unwrap();
    let footer = u32::from_le_bytes(whole[whole.len() - 8..][..4].try_into().unwrap()) as usize + 8;
    let mut errors = 0;
    for at in whole.len() - footer..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            std::fs::write(&path, flipped).unwrap();
            errors += usize::from(read_file(&path, &ReadOptions::default(), Limits::default()).is_err());
        }
    }
    assert!(errors > footer, "{errors} errors by {footer} bytes");
}

/// The records that `csv-core` finds: fields 0 and 1, or nothing where there are fewer or one is empty.
fn oracle(text: &[u8], delimiter: u8) -> Vec<Option<(String, String)>> {
    let mut reader = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
    let (mut output, mut ends) = (vec![0; text.len() + 16], vec![0; text.len() + 16]);
    let (mut rest, mut written, mut fields) = (text, 0, 0);
    let mut records = Vec::new();
    loop {
        let (result, read, more, ended) = reader.read_record(rest, &mut output[written..], &mut ends[fields..]);
        rest = &rest[read..];
        written += more;
        fields += ended;
        match result {
            csv_core::ReadRecordResult::InputEmpty => {}
            csv_core::ReadRecordResult::Record => {
                let field = |from: usize, to: usize| String::from_utf8(output[from..to].to_vec()).unwrap();
                let record = (fields >= 2).then(|| (field(0, ends[0]), field(ends[0], ends[1])));
                records.push(record.filter(|(user, item)| !user.is_empty() && !item.is_empty()));
                (written, fields) = (0, 0);
            }
            csv_core::ReadRecordResult::End => return records,
            full => panic!("{full:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn delimited_text_is_read_as_csv_core_does(
        tokens in proptest::collection::vec(
            prop_oneof![
                4 => Just("a"), 1 => Just("é"), 3 => Just(","), 3 => Just("\""), 1 => Just("\"\""), 1 => Just(",\""),
                1 => Just("\","), 2 => Just("\n"), 1 => Just("\r\n"), 1 => Just("u1,i1\n"), 1 => Just("\"u\",\"i\"\n"),
            ],
            0..60,
        ),
        block_bytes in 1usize..80,
    ) {
        let text = tokens.concat();
        let options = ReadOptions {
            format: Some(Format::Csv),
            delimiter: Some(",".parse().unwrap()),
            header: Some(false),
            ..Default::default()
        };
        // A first record that is good, so that there are two columns.
        let text = format!("first,record\n{text}");
        let seen = read_in("a.csv", text.as_bytes(), &options, block_bytes).unwrap();
        let mut expected = oracle(text.as_bytes(), b',');
        // The one difference: csv-core takes a record that ends inside of quotes.
        if seen.bad.last().is_some_and(|bad| bad.reason == Reason::UnclosedQuote) {
            *expected.last_mut().unwrap() = None;
        }
        let good: Vec<_> = expected.iter().flatten().map(|(user, item)| (user.as_str(), item.as_str())).collect();
        prop_assert_eq!(pairs(&seen), good);
        prop_assert_eq!(seen.bad.len(), expected.iter().filter(|record| record.is_none()).count());
        let lines: Vec<_> = seen.bad.iter().map(|bad| bad.place).collect();
        prop_assert!(lines.is_sorted());
        for bad in &seen.bad {
            let Place::Line(line) = bad.place else { panic!("{:?}", bad.place) };
            let begins = text.split_inclusive('\n').take(line as usize - 1).map(str::len).sum::<usize>();
            prop_assert!(text.as_bytes()[begins..].starts_with(&bad.raw), "line {}", line);
        }
    }

    #[test]
    fn any_bytes_are_answered(data in proptest::collection::vec(any::<u8>(), 0..200), block_bytes in 1usize..50) {
        for name in ["a.csv", "a.tsv", "a.ndjson", "a.parquet", "a.txt", "a"] {
            let _ = read_in(name, &data, &ReadOptions::default(), block_bytes);
        }
    }

    #[test]
    fn json_is_read_as_serde_json_writes_it(
        rows in proptest::collection::vec(("\\PC{1,8}", any::<i64>(), any::<bool>()), 1..8),
        block_bytes in 1usize..80,
    ) {
        let mut text = String::new();
        for (user, item, swap) in &rows {
            let (user_json, item_json) = (serde_json::json!(user), serde_json::json!(item));
            text += &if *swap {
                format!("{{\"item\":{item_json},\"more\":{{\"user\":[{user_json}]}},\"user\":{user_json}}}\n")
            } else {
                format!("{{\"user\":{user_json}, \"item\":{item_json}}}\n")
            };
        }
        let seen = read_in("a.ndjson", text.as_bytes(), &ReadOptions::default(), block_bytes).unwrap();
        let expected: Vec<_> = rows.iter().map(|(user, item, _)| (user.clone(), item.to_string())).collect();
        prop_assert!(seen.bad.is_empty());
        prop_assert_eq!(seen.rows.into_iter().map(|row| (row.0, row.1)).collect::<Vec<_>>(), expected);
    }
}
