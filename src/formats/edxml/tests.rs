//! Documents written by us: what is taken, what is refused, and that no bytes break the reader.

use base64::Engine as _;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// A document with a signature and an attachment.
pub fn sample() -> String {
    let file = base64::engine::general_purpose::STANDARD.encode(PDF);
    format!(
        r#"<?xml version="1.0" encoding="utf-8"?>
<edXML:edXML xmlns:edXML="http://www.mic.gov.vn/TBT/QCVN_102_2016" xmlns:xlink="http://www.w3.org/1999/xlink">
 <edXML:edXMLEnvelope>
  <edXML:edXMLHeader>
   <edXML:MessageHeader>
    <edXML:From><edXML:OrganId>000.00.12.H53</edXML:OrganId><edXML:OrganName>UBND xã Tân Biên</edXML:OrganName><edXML:Email>vp@tanbien.example</edXML:Email></edXML:From>
    <edXML:To><edXML:OrganId>000.00.00.H53</edXML:OrganId><edXML:OrganName>UBND tỉnh Tây Ninh</edXML:OrganName></edXML:To>
    <edXML:To><edXML:OrganId>H53.20</edXML:OrganId></edXML:To>
    <edXML:DocumentId>000.00.12.H53,2026/11/20,142/UBND-VP</edXML:DocumentId>
    <edXML:Code><edXML:CodeNumber>142</edXML:CodeNumber><edXML:CodeNotation>UBND-VP</edXML:CodeNotation></edXML:Code>
    <edXML:PromulgationInfo><edXML:Place>Tân Biên</edXML:Place><edXML:PromulgationDate>2026/11/20</edXML:PromulgationDate></edXML:PromulgationInfo>
    <edXML:DocumentType><edXML:Type>18</edXML:Type><edXML:TypeName>Công văn</edXML:TypeName></edXML:DocumentType>
    <edXML:Subject>V/v trả lời đơn &amp; kiến nghị của ông Ba</edXML:Subject>
    <edXML:SignerInfo><edXML:Competence>KT. CHỦ TỊCH</edXML:Competence><edXML:Position>Phó Chủ tịch</edXML:Position><edXML:FullName>Lê Văn Tám</edXML:FullName></edXML:SignerInfo>
    <edXML:DueDate>2026/12/01</edXML:DueDate>
    <edXML:ToPlaces><edXML:Place>Như trên</edXML:Place><edXML:Place>Lưu: VT</edXML:Place></edXML:ToPlaces>
    <edXML:OtherInfo><edXML:Priority>2</edXML:Priority><edXML:PageAmount>3</edXML:PageAmount></edXML:OtherInfo>
    <edXML:ResponseFor><edXML:OrganId>H53.20</edXML:OrganId><edXML:Code>7/SNV</edXML:Code><edXML:PromulgationDate>2026/11/01</edXML:PromulgationDate></edXML:ResponseFor>
   </edXML:MessageHeader>
   <edXML:TraceHeaderList><edXML:TraceHeader><edXML:OrganId>000.00.12.H53</edXML:OrganId><edXML:Timestamp>2026/11/20 08:12:45</edXML:Timestamp></edXML:TraceHeader><edXML:Bussiness><edXML:BussinessDocType>0</edXML:BussinessDocType><edXML:Paper>1</edXML:Paper><edXML:StaffInfo><edXML:Staff>Trần Thị Sáu</edXML:Staff></edXML:StaffInfo></edXML:Bussiness></edXML:TraceHeaderList>
   {SIGNATURE}
  </edXML:edXMLHeader>
  <edXML:edXMLBody><edXML:edXMLManifest version="1.0"><edXML:Reference><edXML:ContentId>cid:f1</edXML:ContentId><edXML:ContentType>application/pdf</edXML:ContentType><edXML:AttachmentName>142.pdf</edXML:AttachmentName></edXML:Reference></edXML:edXMLManifest></edXML:edXMLBody>
 </edXML:edXMLEnvelope>
 <edXML:AttachmentEncoded><edXML:Attachment><edXML:ContentType>application/pdf</edXML:ContentType><edXML:ContentId>f1</edXML:ContentId><edXML:ContentTransferEncoded>
  {file}
 </edXML:ContentTransferEncoded><edXML:AttachmentName>142.pdf</edXML:AttachmentName></edXML:Attachment></edXML:AttachmentEncoded>
</edXML:edXML>
"#
    )
}

const PDF: &[u8] = b"%PDF-1.7\n\x00\xff\xfe binary \r\n";
const SIGNATURE: &str = "<ds:Signature  xmlns:ds='http://www.w3.org/2000/09/xmldsig#'><ds:SignedInfo>\n\t<ds:Reference URI=\"\"/></ds:SignedInfo><ds:SignatureValue>AAECAw==</ds:SignatureValue><ds:KeyInfo>CN=Tra\u{302}\u{300}n</ds:KeyInfo></ds:Signature>";

const STATUS: &str = r#"<edXML:edXML xmlns:edXML="http://www.mic.gov.vn/TBT/QCVN_102_2016"><edXML:edXMLEnvelope><edXML:edXMLHeader><edXML:MessageStatus>
<edXML:ResponseFor><edXML:OrganId>000.00.00.H53</edXML:OrganId><edXML:Code>12/UBND</edXML:Code><edXML:PromulgationDate>2026/11/18</edXML:PromulgationDate><edXML:DocumentId>000.00.00.H53,2026/11/18,12/UBND</edXML:DocumentId></edXML:ResponseFor>
<edXML:From><edXML:OrganId>000.00.12.H53</edXML:OrganId></edXML:From><edXML:StatusCode>NN</edXML:StatusCode><edXML:Timestamp>2026/11/20 09:00:00</edXML:Timestamp>
<edXML:StaffInfo><edXML:Department>Văn phòng</edXML:Department><edXML:Staff>Lê Thị Mận</edXML:Staff></edXML:StaffInfo>
</edXML:MessageStatus></edXML:edXMLHeader><edXML:edXMLBody/></edXML:edXMLEnvelope></edXML:edXML>"#;

fn record(document: &Document) -> Value {
    serde_json::from_str(&document.record).expect("JSON")
}

#[test]
fn a_document_becomes_the_fields_of_the_dataset() {
    let document = parse(sample().as_bytes()).unwrap_or_else(|faults| panic!("{faults}"));
    let record = record(&document);
    for (pointer, value) in [
        ("/loai_ban_ghi", "van_ban"),
        ("/ma_van_ban", "000.00.12.H53,2026/11/20,142/UBND-VP"),
        ("/tu/ma", "000.00.12.H53"),
        ("/tu/thu_dien_tu", "vp@tanbien.example"),
        ("/den/1/ma", "H53.20"),
        ("/so", "142"),
        ("/ky_hieu", "UBND-VP"),
        ("/ngay_ban_hanh", "2026-11-20"),
        ("/loai", "22"),
        ("/loai_goc/Type", "18"),
        ("/trich_yeu", "V/v trả lời đơn & kiến nghị của ông Ba"),
        ("/nguoi_ky/tham_quyen", "KT. CHỦ TỊCH"),
        ("/han_xu_ly", "2026-12-01"),
        ("/noi_nhan/1", "Lưu: VT"),
        ("/do_khan", "thuong_khan"),
        ("/hoi_dap/0", "H53.20,2026/11/01,7/SNV"),
        ("/can_bo/ho_ten", "Trần Thị Sáu"),
        ("/thoi_diem", "2026-11-20T08:12:45+07:00"),
        ("/dinh_kem/0/ten", "142.pdf"),
        ("/chu_ky", SIGNATURE),
    ] {
        assert_eq!(
            record.pointer(pointer).and_then(Value::as_str),
            Some(value),
            "{pointer}"
        );
    }
    assert_eq!(record["ban_giay"], 1);
    assert_eq!(record["loai_nghiep_vu"], 0);
    let [file] = &document.attachments[..] else {
        panic!("one attachment");
    };
    assert_eq!(file.bytes, PDF, "byte for byte");
    assert_eq!(record["dinh_kem"][0]["sha256"], file.sha256.as_str());
    assert_eq!(
        (file.mime.as_str(), &document.notes[..]),
        ("application/pdf", &[][..])
    );
}

#[test]
fn every_status_is_taken() {
    for (code, name, is_known) in [
        ("03", "Đã tiếp nhận", true),
        ("13", "Lấy lại", true),
        ("7", "Trạng thái chưa biết 07", false),
        ("42", "Trạng thái chưa biết 42", false),
    ] {
        let document = parse(STATUS.replace("NN", code).as_bytes())
            .unwrap_or_else(|faults| panic!("{faults}"));
        let record = record(&document);
        assert_eq!(record["ten_trang_thai"], name);
        assert_eq!(record["trang_thai"], format!("{code:0>2}"));
        assert_eq!(record["thoi_diem"], "2026-11-20T09:00:00+07:00");
        assert_eq!(record["ma_van_ban"], "000.00.00.H53,2026/11/18,12/UBND");
        assert_eq!(document.notes.is_empty(), is_known);
    }
}

#[test]
fn rubbish_before_the_declaration_is_tolerated_and_told() {
    let document =
        parse(format!("1212{}", sample()).as_bytes()).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(document.notes, [Note::Rubbish(4)]);
    let wide: Vec<u8> = sample().encode_utf16().flat_map(u16::to_le_bytes).collect();
    let document =
        parse(&[b"\xff\xfe", &wide[..]].concat()).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(record(&document)["so"], "142");
}

#[test]
fn what_is_no_such_document_is_refused_in_words() {
    let sample = sample();
    for (text, part) in [
        (
            sample.replace(NAMESPACE, "http://www.go.vn/eDoc"),
            "http://www.go.vn/eDoc",
        ),
        (
            sample.replace(NAMESPACE, "http://example.org/x"),
            "không gian tên",
        ),
        (
            sample.replace(
                "<edXML:edXML xmlns",
                "<!DOCTYPE x [<!ENTITY a \"b\">]><edXML:edXML xmlns",
            ),
            "DTD",
        ),
        (sample.replace("&amp;", "&leak;"), "thực thể"),
        (
            sample.replace("</edXML:Subject>", "</edXML:Object>"),
            "XML không đúng",
        ),
        (sample[..sample.len() / 2].to_owned(), "cắt cụt"),
        (
            sample.replace("<edXML:ContentId>f1", "<edXML:ContentId>f2"),
            "thiếu nội dung của tệp đính kèm “142.pdf”",
        ),
        (sample.replace("JVBER", "JV*ER"), "Base64"),
        (sample.replace("MessageHeader", "Other"), "MessageHeader"),
        ("không phải XML".to_owned(), "<?xml"),
        (
            format!("<?xml version='1.0'?>{}", "<a>".repeat(60)),
            "quá sâu",
        ),
    ] {
        let faults = parse(text.as_bytes()).expect_err(part);
        assert!(faults.to_string().contains(part), "{part}: {faults}");
    }
    assert!(parse(b"<?xml version='1.0'?><a>\xff</a>").is_err());
}

#[test]
fn attachments_have_safe_names() {
    for (name, safe) in [
        ("a.pdf", "a.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\b.doc", "b.doc"),
        ("..", "dinh-kem"),
        ("a\u{0}b", "ab"),
    ] {
        assert_eq!(safe_name(name), safe);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_document_or_a_fault(at in 0usize..6000, bytes in proptest::collection::vec(any::<u8>(), 0..8), cut in 0usize..6000) {
        let mut text = sample().into_bytes();
        let at = at % text.len();
        let end = (at + bytes.len() / 2).min(text.len());
        text.splice(at..end, bytes);
        text.truncate(text.len() - cut % (text.len() / 2));
        if let Err(faults) = parse(&text) {
            prop_assert!(!faults.is_empty());
        }
    }
}
