//! Why a source's server was not trusted, in words that say what to do; the same for databases,
//! services and loggers.

use std::error::Error;
use std::io;

use rustls::CertificateError;

use crate::edge::connectors::Fault;
use crate::shell::tls;

/// The code of every fault of TLS with a source's server.
pub const TLS: &str = "tls";

/// The file of the authority that is to be trusted is of no use.
pub fn no_authority(fault: tls::Fault) -> Fault {
    Fault::new(
        "ca",
        [
            format!("không dùng được tệp CA: {fault}"),
            fault.to_string(),
        ],
        fault.hints(),
    )
}

/// What is wrong between us and a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Distrust {
    /// The certificate was signed by nobody whom we trust.
    Stranger,
    WrongName,
    Expired,
    NotYetValid,
    BadCertificate,
    /// The server does not encrypt, or what answers is no such server.
    NoTls,
    Other,
}

impl Distrust {
    /// What an error says of TLS, wherever in its chain; none where it speaks of something else.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Distrust> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(tls) = error.downcast_ref::<rustls::Error>() {
                return Some(Distrust::of_tls(tls));
            }
            next = match error.downcast_ref::<io::Error>() {
                Some(error) => error.get_ref().map(|inner| inner as &(dyn Error + 'static)),
                None => error.source(),
            };
        }
        None
    }

    pub fn of_tls(error: &rustls::Error) -> Distrust {
        use CertificateError as Bad;
        match error {
            rustls::Error::InvalidCertificate(bad) => match bad {
                Bad::UnknownIssuer | Bad::BadSignature => Distrust::Stranger,
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => Distrust::WrongName,
                Bad::Expired | Bad::ExpiredContext { .. } => Distrust::Expired,
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => Distrust::NotYetValid,
                _ => Distrust::BadCertificate,
            },
            rustls::Error::InvalidMessage(_) => Distrust::NoTls,
            _ => Distrust::Other,
        }
    }

    /// The fault that a person reads; `setting` is where the authority is set.
    pub fn fault(&self, setting: &str) -> Fault {
        let [vi, en] = match self {
            Distrust::Stranger => [
                "chứng thư của máy chủ nguồn do đơn vị khác cấp",
                "the certificate of the source's server was signed by another authority",
            ],
            Distrust::WrongName => [
                "chứng thư của máy chủ nguồn không ghi tên hoặc địa chỉ đang dùng",
                "the certificate of the source's server is not for the name that is used",
            ],
            Distrust::Expired => [
                "chứng thư của máy chủ nguồn đã hết hạn",
                "the certificate of the source's server has expired",
            ],
            Distrust::NotYetValid => [
                "chứng thư của máy chủ nguồn chưa có hiệu lực",
                "the certificate of the source's server is not valid yet",
            ],
            Distrust::BadCertificate => [
                "chứng thư của máy chủ nguồn không dùng được",
                "the certificate of the source's server is not usable",
            ],
            Distrust::NoTls => [
                "máy chủ nguồn không mã hóa (TLS)",
                "the source's server does not encrypt (TLS)",
            ],
            Distrust::Other => [
                "không thỏa thuận được TLS với máy chủ nguồn",
                "no TLS could be agreed upon with the source's server",
            ],
        };
        let [hint_vi, hint_en] = match self {
            Distrust::Stranger => [
                format!(
                    "Chép tệp CA đã cấp chứng thư cho máy chủ đó vào {setting}; nếu tệp đúng thì có thể có thiết bị chặn giữa đường."
                ),
                format!(
                    "Put the authority that signed the server's certificate into {setting}; if it is that one, something may stand in between."
                ),
            ],
            Distrust::WrongName => [
                "Dùng đúng tên máy chủ ghi trong chứng thư, hoặc cấp lại chứng thư có tên này."
                    .to_owned(),
                "Use the name that the certificate has, or have it issued anew with this one."
                    .to_owned(),
            ],
            Distrust::Expired | Distrust::BadCertificate => [
                "Cấp lại chứng thư cho máy chủ đó; kiểm tra đồng hồ của trạm.".to_owned(),
                "Have the server's certificate issued anew; check the box's clock.".to_owned(),
            ],
            Distrust::NotYetValid => [
                "Kiểm tra đồng hồ của trạm và của máy chủ đó.".to_owned(),
                "Check the clocks of the box and of the server.".to_owned(),
            ],
            Distrust::NoTls => [
                format!(
                    "Bật TLS ở máy chủ đó và kiểm tra cổng; bỏ {setting} chỉ khi chấp nhận không mã hóa."
                ),
                format!(
                    "Switch TLS on at that server and check the port; leave {setting} out only if that is acceptable."
                ),
            ],
            Distrust::Other => [
                "Máy chủ đó phải dùng TLS 1.2 trở lên.".to_owned(),
                "The server must speak TLS 1.2 or newer.".to_owned(),
            ],
        };
        Fault::new(TLS, [vi, en], [hint_vi, hint_en])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_known_however_deep_it_lies() {
        let tls = rustls::Error::InvalidCertificate(CertificateError::Expired);
        let wrapped = io::Error::other(io::Error::other(tls));
        assert_eq!(Distrust::of(&wrapped), Some(Distrust::Expired));
        assert_eq!(Distrust::of(&io::Error::other("no")), None);
        let other: io::Error = io::ErrorKind::TimedOut.into();
        assert_eq!(Distrust::of(&other), None);
    }
}
