//! Why there is no link: one word for each cause that a person would treat differently.

use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError};

use crate::shell::backoff::Ending;

/// Why there is no link to the hub, or why it was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownReason {
    /// The hub's name has no address, or nobody answers for names.
    NameLookup,
    TcpRefused,
    TcpTimedOut,
    TcpUnreachable,
    /// TCP stands, but no TLS answer came in time.
    TlsTimedOut,
    /// What answered does not speak TLS: a captive portal, or a wrong port.
    NotTls,
    /// The server's certificate was issued by somebody whom we do not trust.
    TlsUnknownIssuer,
    TlsWrongName,
    TlsExpired,
    TlsNotYetValid,
    TlsBadCertificate,
    /// The server refused our certificate.
    TlsOursRefused,
    /// No common TLS version or cipher suite, or another fault of the handshake.
    TlsFailed,
    /// TLS stands, but no MQTT answer came in time.
    MqttTimedOut,
    /// What answered speaks TLS but not MQTT, or broke its rules.
    NotMqtt,
    /// The broker refused the connection, with this MQTT 5 reason code.
    MqttRefused(u8),
    /// The broker refused a subscription, with this MQTT 5 reason code.
    SubscriptionRefused(u8),
    /// Another client connected with our identity.
    TakenOver,
    /// The broker ended the connection, with this MQTT 5 reason code.
    BrokerLeft(u8),
    /// The connection was closed or reset without a word.
    ClosedByPeer,
    /// It was closed again and again soon after it stood. Brokers that do not say so end a session
    /// like this when another client takes it over.
    KeepsClosing,
    /// Nothing was heard for one and a half times the keep-alive.
    Silent,
    /// Rows waited too long for their receipt although the link stood.
    NoProgress,
    /// The first address answers again, so the second is left.
    Returning,
    /// Our own side asked for it.
    Asked,
}

/// Reason codes by which a broker sends all its clients away for a while: unavailable, busy,
/// shutting down, quota exceeded, administrative action, use another server, server moved,
/// connection rate exceeded.
const FOR_EVERYONE: [u8; 8] = [0x88, 0x89, 0x8b, 0x97, 0x98, 0x9c, 0x9d, 0x9f];

impl DownReason {
    /// Every reason; where the broker gives a code, with that for “not authorized”.
    pub const ALL: [DownReason; 25] = [
        DownReason::NameLookup,
        DownReason::TcpRefused,
        DownReason::TcpTimedOut,
        DownReason::TcpUnreachable,
        DownReason::TlsTimedOut,
        DownReason::NotTls,
        DownReason::TlsUnknownIssuer,
        DownReason::TlsWrongName,
        DownReason::TlsExpired,
        DownReason::TlsNotYetValid,
        DownReason::TlsBadCertificate,
        DownReason::TlsOursRefused,
        DownReason::TlsFailed,
        DownReason::MqttTimedOut,
        DownReason::NotMqtt,
        DownReason::MqttRefused(0x87),
        DownReason::SubscriptionRefused(0x87),
        DownReason::TakenOver,
        DownReason::BrokerLeft(0x87),
        DownReason::ClosedByPeer,
        DownReason::KeepsClosing,
        DownReason::Silent,
        DownReason::NoProgress,
        DownReason::Returning,
        DownReason::Asked,
    ];

    /// The reason of a code, with what the broker gave; none for a code that is not known.
    pub fn from_code(code: &str, mqtt: Option<u8>) -> Option<DownReason> {
        let known = DownReason::ALL
            .into_iter()
            .find(|known| known.as_code() == code)?;
        Some(match (known, mqtt) {
            (DownReason::MqttRefused(_), Some(given)) => DownReason::MqttRefused(given),
            (DownReason::SubscriptionRefused(_), Some(given)) => {
                DownReason::SubscriptionRefused(given)
            }
            (DownReason::BrokerLeft(_), Some(given)) => DownReason::BrokerLeft(given),
            (known, _) => known,
        })
    }

    /// Short code for logs, metrics and the page; stable.
    pub fn as_code(self) -> &'static str {
        match self {
            DownReason::NameLookup => "name-lookup",
            DownReason::TcpRefused => "tcp-refused",
            DownReason::TcpTimedOut => "tcp-timed-out",
            DownReason::TcpUnreachable => "tcp-unreachable",
            DownReason::TlsTimedOut => "tls-timed-out",
            DownReason::NotTls => "not-tls",
            DownReason::TlsUnknownIssuer => "tls-unknown-issuer",
            DownReason::TlsWrongName => "tls-wrong-name",
            DownReason::TlsExpired => "tls-expired",
            DownReason::TlsNotYetValid => "tls-not-yet-valid",
            DownReason::TlsBadCertificate => "tls-bad-certificate",
            DownReason::TlsOursRefused => "tls-ours-refused",
            DownReason::TlsFailed => "tls-failed",
            DownReason::MqttTimedOut => "mqtt-timed-out",
            DownReason::NotMqtt => "not-mqtt",
            DownReason::MqttRefused(_) => "mqtt-refused",
            DownReason::SubscriptionRefused(_) => "subscription-refused",
            DownReason::TakenOver => "taken-over",
            DownReason::BrokerLeft(_) => "broker-left",
            DownReason::ClosedByPeer => "closed-by-peer",
            DownReason::KeepsClosing => "keeps-closing",
            DownReason::Silent => "silent",
            DownReason::NoProgress => "no-progress",
            DownReason::Returning => "returning",
            DownReason::Asked => "asked",
        }
    }

    /// The broker's reason code, where it gave one.
    pub fn reason_code(self) -> Option<u8> {
        match self {
            DownReason::MqttRefused(code)
            | DownReason::SubscriptionRefused(code)
            | DownReason::BrokerLeft(code) => Some(code),
            DownReason::TakenOver => Some(0x8e),
            _ => None,
        }
    }

    /// For a person in the office.
    pub fn vietnamese(self) -> &'static str {
        match self {
            DownReason::NameLookup => "Không tra được tên máy chủ trục; kiểm tra mạng và DNS.",
            DownReason::TcpRefused => {
                "Máy chủ trục từ chối kết nối; dịch vụ ở đó chưa chạy hoặc sai cổng."
            }
            DownReason::TcpTimedOut => "Máy chủ trục không trả lời; đường truyền có thể đang đứt.",
            DownReason::TcpUnreachable => {
                "Không có đường tới máy chủ trục; kiểm tra cáp, 4G và bộ định tuyến."
            }
            DownReason::TlsTimedOut => "Có kết nối nhưng phía bên kia không trả lời TLS.",
            DownReason::NotTls => {
                "Phía trả lời không phải máy chủ trục (có thể là trang đăng nhập mạng, hoặc sai cổng)."
            }
            DownReason::TlsUnknownIssuer => {
                "Chứng thư máy chủ do nơi lạ cấp; có thể có thiết bị chặn giữa đường."
            }
            DownReason::TlsWrongName => "Chứng thư máy chủ không đúng tên miền trong cấu hình.",
            DownReason::TlsExpired => {
                "Chứng thư máy chủ đã hết hạn; báo đơn vị vận hành trục, kiểm tra đồng hồ của trạm."
            }
            DownReason::TlsNotYetValid => {
                "Chứng thư máy chủ chưa có hiệu lực; kiểm tra đồng hồ của trạm."
            }
            DownReason::TlsBadCertificate => "Chứng thư máy chủ không dùng được.",
            DownReason::TlsOursRefused => {
                "Máy chủ trục không nhận chứng thư của trạm (hết hạn, bị thu hồi hoặc sai nơi cấp)."
            }
            DownReason::TlsFailed => "Không thỏa thuận được TLS với máy chủ trục.",
            DownReason::MqttTimedOut => "TLS thông nhưng dịch vụ MQTT không trả lời.",
            DownReason::NotMqtt => "Phía trả lời không nói đúng giao thức MQTT 5.",
            DownReason::MqttRefused(_) => "Dịch vụ MQTT từ chối trạm này.",
            DownReason::SubscriptionRefused(_) => {
                "Dịch vụ MQTT không cho trạm nhận tin; kiểm tra phân quyền ở trục."
            }
            DownReason::TakenOver => "Một máy khác đang dùng cùng định danh với trạm này.",
            DownReason::BrokerLeft(_) => "Dịch vụ MQTT chủ động ngắt kết nối.",
            DownReason::ClosedByPeer => "Kết nối bị đóng đột ngột.",
            DownReason::KeepsClosing => {
                "Kết nối liên tục bị đóng ngay sau khi thông; có thể máy khác dùng cùng định danh."
            }
            DownReason::Silent => "Đường truyền im lặng quá lâu nên được coi là đã đứt.",
            DownReason::NoProgress => "Có kết nối nhưng trục không xác nhận dữ liệu; đang nối lại.",
            DownReason::Returning => "Đang chuyển về địa chỉ chính của trục.",
            DownReason::Asked => "Đang nối lại theo yêu cầu.",
        }
    }

    /// What an attempt that ended so cost the hub.
    pub(in crate::shell) fn ending_of_attempt(self) -> Ending {
        match self {
            DownReason::NameLookup | DownReason::TcpRefused | DownReason::TcpUnreachable => {
                Ending::Unreachable
            }
            DownReason::Asked => Ending::Unreachable,
            DownReason::TcpTimedOut => Ending::Silent,
            DownReason::TakenOver => Ending::TakenOver,
            reason if reason.is_for_everyone() => Ending::HubWide { up_ms: 0 },
            _ => Ending::Failed,
        }
    }

    /// How a link ended that stood for `up_ms`.
    pub(in crate::shell) fn ending_of_link(self, up_ms: u64) -> Ending {
        match self {
            DownReason::TakenOver => Ending::TakenOver,
            reason if reason.is_for_everyone() => Ending::HubWide { up_ms },
            _ => Ending::Lost { up_ms },
        }
    }

    /// Whether the broker sends all its clients away for a while.
    pub fn is_for_everyone(self) -> bool {
        matches!(self, DownReason::MqttRefused(code) | DownReason::BrokerLeft(code) if FOR_EVERYONE.contains(&code))
    }

    /// Why a stream on which TLS is spoken failed.
    pub(in crate::shell) fn of_stream(error: &io::Error) -> DownReason {
        if let Some(tls) = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<TlsError>())
        {
            return DownReason::of_tls(tls);
        }
        match error.kind() {
            io::ErrorKind::TimedOut => DownReason::Silent,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => DownReason::TcpUnreachable,
            _ => DownReason::ClosedByPeer,
        }
    }

    fn of_tls(error: &TlsError) -> DownReason {
        use AlertDescription as Alert;
        match error {
            TlsError::InvalidCertificate(fault) => match fault {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    DownReason::TlsUnknownIssuer
                }
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => DownReason::TlsWrongName,
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    DownReason::TlsExpired
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    DownReason::TlsNotYetValid
                }
                _ => DownReason::TlsBadCertificate,
            },
            TlsError::AlertReceived(
                Alert::NoCertificate
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::DecryptError
                | Alert::CertificateRequired,
            ) => DownReason::TlsOursRefused,
            TlsError::InvalidMessage(_) => DownReason::NotTls,
            _ => DownReason::TlsFailed,
        }
    }
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason_code() {
            Some(code) => write!(f, "{} (0x{code:02x})", self.as_code()),
            None => f.write_str(self.as_code()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reason_is_left_out_of_all() {
        // Whoever adds a reason is led here, and adds it to `ALL`.
        let place = |reason: DownReason| match reason {
            DownReason::NameLookup => 0,
            DownReason::TcpRefused => 1,
            DownReason::TcpTimedOut => 2,
            DownReason::TcpUnreachable => 3,
            DownReason::TlsTimedOut => 4,
            DownReason::NotTls => 5,
            DownReason::TlsUnknownIssuer => 6,
            DownReason::TlsWrongName => 7,
            DownReason::TlsExpired => 8,
            DownReason::TlsNotYetValid => 9,
            DownReason::TlsBadCertificate => 10,
            DownReason::TlsOursRefused => 11,
            DownReason::TlsFailed => 12,
            DownReason::MqttTimedOut => 13,
            DownReason::NotMqtt => 14,
            DownReason::MqttRefused(_) => 15,
            DownReason::SubscriptionRefused(_) => 16,
            DownReason::TakenOver => 17,
            DownReason::BrokerLeft(_) => 18,
            DownReason::ClosedByPeer => 19,
            DownReason::KeepsClosing => 20,
            DownReason::Silent => 21,
            DownReason::NoProgress => 22,
            DownReason::Returning => 23,
            DownReason::Asked => 24,
        };
        for (index, reason) in DownReason::ALL.into_iter().enumerate() {
            assert_eq!(place(reason), index, "{reason}");
            let again = DownReason::from_code(reason.as_code(), reason.reason_code());
            assert_eq!(again, Some(reason));
        }
        assert_eq!(
            DownReason::from_code("broker-left", Some(0x8b)),
            Some(DownReason::BrokerLeft(0x8b))
        );
    }
}
