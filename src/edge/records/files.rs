//! Bodies that are files: CSV, and forms with files in them, each read as in the drop folder.

use axum::body::{Body, Bytes};

use crate::edge::config::FileFormat;
use crate::edge::config::table::TableConfig;
use crate::edge::folder::FolderSource;
use crate::edge::folder::reading::{Cause, File, Refused, format_of, unknown_format};
use crate::edge::folder::reason::{Place, Told};
use crate::edge::http::App;
use crate::edge::problem::{ERRORS_MAX, ErrorItem, Problem};
use crate::edge::records::refusal::{bad_request, busy, too_many, unfit};
use crate::edge::records::{Parameters, Prepared, RECORDS_MAX, Request, Unfit, request_key};
use crate::formats::encoding::Encoding;
use crate::formats::table::cell::DecimalSign;

/// Most files of one form.
const PARTS_MAX: usize = 100;

/// The files of a body.
pub struct Files {
    table: TableConfig,
    /// Of a form.
    boundary: Option<String>,
    parts: Vec<Part>,
}

/// One file of a form.
struct Part {
    name: String,
    format: Option<FileFormat>,
    content: Bytes,
}

impl Files {
    /// A body that is one CSV file.
    pub fn csv(content_type: &str, parameters: Option<&Parameters>) -> Result<Files, Problem> {
        let mut table = table(parameters)?;
        table.encoding = match charset(content_type) {
            None => None,
            Some(name) => Some(name.parse::<Encoding>().map_err(|_| {
                let known = Encoding::PRINTED.join(", ");
                bad_request(
                    [
                        &format!("Không biết bảng mã {name}."),
                        &format!("The charset {name} is not known."),
                    ],
                    [
                        &format!("Các bảng mã: {known}."),
                        &format!("Charsets: {known}."),
                    ],
                )
            })?),
        };
        Ok(Files {
            table,
            boundary: None,
            parts: Vec::new(),
        })
    }

    /// A body that is a form.
    pub fn multipart(
        content_type: &str,
        parameters: Option<&Parameters>,
    ) -> Result<Files, Problem> {
        let boundary = multer::parse_boundary(content_type).map_err(|_| not_a_form())?;
        Ok(Files {
            table: table(parameters)?,
            boundary: Some(boundary),
            parts: Vec::new(),
        })
    }

    /// Takes a form apart; a CSV file is its only part.
    pub async fn take_apart(&mut self, body: &Bytes) -> Result<(), Problem> {
        let Some(boundary) = &self.boundary else {
            self.parts = vec![Part {
                name: "csv".to_owned(),
                format: Some(FileFormat::Csv),
                content: body.clone(),
            }];
            return Ok(());
        };
        let stream = Body::from(body.clone()).into_data_stream();
        let mut form = multer::Multipart::new(stream, boundary.as_str());
        while let Some(field) = form.next_field().await.map_err(|_| not_a_form())? {
            let name = field
                .file_name()
                .or_else(|| field.name())
                .unwrap_or_default();
            let name = name
                .rsplit(['/', '\\'])
                .next()
                .unwrap_or_default()
                .to_owned();
            let kind = field
                .content_type()
                .map(|kind| kind.essence_str().to_ascii_lowercase());
            let format = format_of(&name).or_else(|| kind.as_deref().and_then(format_of_kind));
            let content = field.bytes().await.map_err(|_| not_a_form())?;
            if self.parts.len() == PARTS_MAX {
                return Err(bad_request(
                    [
                        &format!("Một biểu mẫu có tối đa {PARTS_MAX} tệp."),
                        &format!("A form has at most {PARTS_MAX} files."),
                    ],
                    ["Chia thành nhiều lần gửi.", "Send it in several parts."],
                ));
            }
            self.parts.push(Part {
                name,
                format,
                content,
            });
        }
        match self.parts.is_empty() {
            true => Err(not_a_form()),
            false => Ok(()),
        }
    }
}

impl Request {
    /// Reads every file of the body; nothing is kept when one of them is wrong.
    pub(super) fn prepare_files(
        &self,
        app: &App,
        body: &Bytes,
        files: &Files,
    ) -> Result<Prepared, Unfit> {
        let dataset = &*self.known;
        let source = FolderSource::of_request(
            self.source.clone(),
            self.dataset.clone(),
            files.table.clone(),
        );
        let now = app.door.now();
        let mut records = Vec::new();
        let mut refused: Vec<(&str, Refused)> = Vec::new();
        for part in &files.parts {
            let file = File {
                door: &app.door,
                dataset,
                source: &source,
                name: &part.name,
                beside: None,
                bytes: &part.content,
                op: self.op,
            };
            let read = match part.format {
                None => Ok(Err(unknown_format())),
                Some(format) => file.records(format, now, &mut Vec::new()),
            };
            match read {
                Ok(Ok(read)) => records.extend(read),
                Ok(Err(why)) => refused.push((&part.name, why)),
                // A full disk or a machine without memory passes; the sender comes again.
                Err(error) => {
                    tracing::warn!(source = %self.source, %error, "the files of a request cannot be taken now");
                    return Err(Unfit::Body(busy()));
                }
            }
        }
        if !refused.is_empty() {
            return Err(not_fit(dataset, refused, files.boundary.is_some()));
        }
        if RECORDS_MAX < records.len() {
            return Err(Unfit::Body(too_many(RECORDS_MAX, Vec::new())));
        }
        let mut contents: Vec<&[u8]> = vec![];
        match files.boundary {
            None => contents.push(body),
            // The boundary differs from one sending to the next.
            Some(_) => {
                for part in &files.parts {
                    contents.extend([part.name.as_bytes(), &part.content]);
                }
            }
        }
        Ok(Prepared {
            records,
            once: request_key(self, &contents),
        })
    }
}

fn not_fit(
    dataset: &crate::catalogue::Dataset,
    refused: Vec<(&str, Refused)>,
    is_form: bool,
) -> Unfit {
    let mut errors = Vec::new();
    let mut cause = Cause::Records;
    let (mut count, mut refusal) = (0, None);
    for (name, why) in refused {
        count += why.records;
        if why.cause != Cause::Records {
            cause = why.cause;
        }
        let mut faults = why.faults;
        if faults.is_empty() {
            faults.push(Told {
                place: Place::default(),
                vi: why.summary.clone(),
                en: "the file is refused".to_owned(),
            });
        }
        let at = match is_form {
            true => [format!("tệp “{name}”, "), format!("file {name:?}, ")],
            false => [String::new(), String::new()],
        };
        errors.extend(faults.into_iter().map(|Told { place, vi, en }| ErrorItem {
            file: is_form.then(|| name.to_owned()),
            record: place.record,
            pointer: place.pointer,
            line: place.line,
            column: place.column,
            detail: format!("{}{vi}", at[0]),
            detail_en: format!("{}{en}", at[1]),
        }));
        let is_worse = |refusal: &Option<Box<crate::catalogue::admit::Refusal>>| {
            refusal.as_ref().is_none_or(|refusal| !refusal.alarm())
        };
        if let Some(found) = why.refusal
            && is_worse(&refusal)
        {
            refusal = Some(found);
        }
    }
    errors.truncate(ERRORS_MAX);
    let wrong = errors.len();
    match (refusal, cause) {
        (Some(refusal), cause) if cause == Cause::Records || refusal.alarm() => Unfit::Records {
            problem: unfit(
                dataset,
                &refusal,
                errors,
                wrong,
                usize::try_from(count).unwrap_or(wrong),
            ),
            count,
            refusal: *refusal,
        },
        (_, Cause::TooMany) => Unfit::Body(too_many(RECORDS_MAX, errors)),
        _ => {
            let count = errors.len();
            let problem = bad_request(
                [
                    &format!(
                        "Tệp có {count} chỗ không đọc được hoặc không đúng; không bản ghi nào được lưu."
                    ),
                    &format!("The files are wrong in {count} places; nothing was kept."),
                ],
                [
                    "Sửa các chỗ nêu trong errors rồi gửi lại.",
                    "Correct the places in errors and send it again.",
                ],
            );
            Unfit::Body(problem.with_errors(errors))
        }
    }
}

fn table(parameters: Option<&Parameters>) -> Result<TableConfig, Problem> {
    let decimal = match parameters.and_then(|parameters| parameters.decimal.as_deref()) {
        None => None,
        Some(",") => Some(DecimalSign::Comma),
        Some(".") => Some(DecimalSign::Point),
        Some(_) => {
            return Err(bad_request(
                [
                    "Tham số decimal phải là dấu chấm hoặc dấu phẩy.",
                    "The parameter decimal must be a point or a comma.",
                ],
                ["Ví dụ: ?decimal=%2C", "For example: ?decimal=%2C"],
            ));
        }
    };
    Ok(TableConfig {
        decimal,
        ..TableConfig::default()
    })
}

fn charset(content_type: &str) -> Option<&str> {
    let mut parameters = content_type.split(';').skip(1);
    parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("charset")
            .then(|| value.trim().trim_matches('"'))
    })
}

fn format_of_kind(kind: &str) -> Option<FileFormat> {
    match kind {
        "application/json" => Some(FileFormat::Json),
        "application/x-ndjson" | "application/ndjson" => Some(FileFormat::NdJson),
        "text/csv" | "text/tab-separated-values" => Some(FileFormat::Csv),
        "application/vnd.ms-excel"
        | "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
        | "application/vnd.oasis.opendocument.spreadsheet" => Some(FileFormat::Sheet),
        "application/xml" | "text/xml" => Some(FileFormat::EdXml),
        _ => None,
    }
}

fn not_a_form() -> Problem {
    bad_request(
        [
            "Biểu mẫu multipart/form-data không đọc được hoặc không có tệp nào.",
            "The form (multipart/form-data) cannot be read, or has no file.",
        ],
        [
            "Gửi mỗi tệp là một phần có filename, ví dụ curl -F tep=@ho-so.csv.",
            "Send each file as a part with a filename, such as curl -F file=@dossiers.csv.",
        ],
    )
}
