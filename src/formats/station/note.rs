//! What was tolerated in a station file: kept beside the record, so that a technician can set the
//! logger right, and so that nothing is mended in silence.

use std::fmt;

/// A departure from the legal form that was understood all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The name has no province and facility, and the mapping does not know the station.
    ShortName {
        given: String,
    },
    /// The name's station was found in the mapping.
    MappedName {
        given: String,
    },
    /// The province merged into another.
    MergedProvince {
        given: String,
        today: String,
    },
    /// A part of the name was written in another case.
    NameSpelling {
        given: String,
        meant: String,
    },
    /// The facility's abbreviation holds `_`, which separates the parts of a name.
    FacilityUnderscore {
        facility: String,
    },
    /// The kind of the station does not follow from its code.
    UnknownKind {
        station: String,
    },
    ByteOrderMark,
    /// Lines end otherwise than with CR LF.
    LineEnds,
    NoFinalLineEnd,
    BlankLines,
    /// All parameters stand on one line.
    OneLine {
        parameters: u32,
    },
    TrailingTabs,
    Spaces,
    DecimalComma,
    /// The number was written in another form, such as `+7` or `.5`.
    NumberSpelling {
        symbol: String,
        given: String,
        meant: String,
    },
    /// A missing value was written otherwise than `---`.
    MissingMark {
        symbol: String,
        given: String,
    },
    SymbolSpelling {
        given: String,
        meant: String,
    },
    /// The parameter is not in Table 34.
    UnknownParameter {
        symbol: String,
    },
    RepeatedParameter {
        symbol: String,
    },
    /// The status has one digit instead of two.
    StatusSpelling {
        given: String,
    },
    /// Status `03`, maintenance in one vendor's loggers, is not legal in a file.
    StatusNotLegal {
        symbol: String,
    },
    /// The time has no seconds.
    TimeWithoutSeconds,
    /// A line's time is not the time in the file's name.
    TimeDiffers {
        name: String,
        line: String,
    },
}

impl Note {
    pub fn message_vi(&self) -> String {
        match self {
            Note::ShortName { given } => {
                format!(
                    "tên tệp không có đủ tỉnh và cơ sở; hãy khai báo trạm {given:?} trong cấu hình"
                )
            }
            Note::MappedName { given } => format!("tên trạm {given:?} được đổi theo cấu hình"),
            Note::MergedProvince { given, today } => format!("tỉnh {given:?} nay là {today:?}"),
            Note::NameSpelling { given, meant } => {
                format!("trong tên tệp {given:?} được hiểu là {meant:?}")
            }
            Note::FacilityUnderscore { facility } => format!("tên cơ sở {facility:?} chứa dấu _"),
            Note::UnknownKind { station } => {
                format!("không biết loại trạm {station:?}; hãy khai báo trong cấu hình")
            }
            Note::ByteOrderMark => "tệp có BOM ở đầu".to_owned(),
            Note::LineEnds => "dòng không kết thúc bằng CR LF".to_owned(),
            Note::NoFinalLineEnd => "dòng cuối không có ký tự xuống dòng".to_owned(),
            Note::BlankLines => "có dòng trống".to_owned(),
            Note::OneLine { parameters } => format!("{parameters} thông số nằm trên một dòng"),
            Note::TrailingTabs => "thừa dấu TAB ở cuối dòng".to_owned(),
            Note::Spaces => "thừa dấu cách quanh giá trị".to_owned(),
            Note::DecimalComma => "số dùng dấu phẩy thập phân".to_owned(),
            Note::NumberSpelling {
                symbol,
                given,
                meant,
            } => {
                format!("giá trị {symbol} viết {given:?}, được hiểu là {meant}")
            }
            Note::MissingMark { symbol, given } => {
                format!("giá trị {symbol} viết {given:?}, được hiểu là thiếu số liệu (---)")
            }
            Note::SymbolSpelling { given, meant } => {
                format!("ký hiệu {given:?} được hiểu là {meant:?}")
            }
            Note::UnknownParameter { symbol } => {
                format!("thông số {symbol:?} không có trong Bảng 34")
            }
            Note::RepeatedParameter { symbol } => {
                format!("thông số {symbol:?} có nhiều lần trong tệp")
            }
            Note::StatusSpelling { given } => format!("trạng thái {given:?} chỉ có một chữ số"),
            Note::StatusNotLegal { symbol } => {
                format!(
                    "trạng thái 03 (bảo trì) của {symbol} không hợp lệ theo Thông tư 10/2021/TT-BTNMT"
                )
            }
            Note::TimeWithoutSeconds => "thời gian không có giây".to_owned(),
            Note::TimeDiffers { name, line } => {
                format!("thời gian đo {line} khác thời gian trong tên tệp {name}")
            }
        }
    }

    pub fn message_en(&self) -> String {
        match self {
            Note::ShortName { given } => {
                format!(
                    "the name lacks province and facility; add the station {given:?} to the configuration"
                )
            }
            Note::MappedName { given } => {
                format!("the station name {given:?} was mapped by the configuration")
            }
            Note::MergedProvince { given, today } => {
                format!("the province {given:?} is {today:?} today")
            }
            Note::NameSpelling { given, meant } => {
                format!("{given:?} in the name was read as {meant:?}")
            }
            Note::FacilityUnderscore { facility } => format!("the facility {facility:?} holds a _"),
            Note::UnknownKind { station } => {
                format!("the kind of station {station:?} is not known; add it to the configuration")
            }
            Note::ByteOrderMark => "the file begins with a byte order mark".to_owned(),
            Note::LineEnds => "lines do not end with CR LF".to_owned(),
            Note::NoFinalLineEnd => "the last line has no line end".to_owned(),
            Note::BlankLines => "there are blank lines".to_owned(),
            Note::OneLine { parameters } => format!("{parameters} parameters stand on one line"),
            Note::TrailingTabs => "tabs at the end of lines".to_owned(),
            Note::Spaces => "spaces around fields".to_owned(),
            Note::DecimalComma => "numbers have a decimal comma".to_owned(),
            Note::NumberSpelling {
                symbol,
                given,
                meant,
            } => {
                format!("the value of {symbol} is written {given:?}, read as {meant}")
            }
            Note::MissingMark { symbol, given } => {
                format!("the value of {symbol} is written {given:?}, read as missing (---)")
            }
            Note::SymbolSpelling { given, meant } => {
                format!("the symbol {given:?} was read as {meant:?}")
            }
            Note::UnknownParameter { symbol } => {
                format!("the parameter {symbol:?} is not in Table 34")
            }
            Note::RepeatedParameter { symbol } => {
                format!("the parameter {symbol:?} stands several times in the file")
            }
            Note::StatusSpelling { given } => format!("the status {given:?} has one digit only"),
            Note::StatusNotLegal { symbol } => {
                format!(
                    "status 03 (maintenance) of {symbol} is not legal by Circular 10/2021/TT-BTNMT"
                )
            }
            Note::TimeWithoutSeconds => "a time has no seconds".to_owned(),
            Note::TimeDiffers { name, line } => {
                format!("the time {line} of a line is not the time {name} in the file's name")
            }
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} / {}", self.message_vi(), self.message_en())
    }
}

/// Notes of one file: each is kept once, in the order of its first place.
#[derive(Debug, Default)]
pub(super) struct Notes(pub(super) Vec<Note>);

impl Notes {
    pub(super) fn add(&mut self, note: Note) {
        if !self.0.contains(&note) {
            self.0.push(note);
        }
    }
}
