"""Names of languages: the codes that containers use for one and the same language.

In:   a language as a file states it: "ger", "deu", "de", "DE-at", "en_US".
Out:  its ISO 639-2/T code and its variety.
"""

from __future__ import annotations

BIBLIOGRAPHIC = {
    "sqi": "alb", "hye": "arm", "eus": "baq", "mya": "bur", "zho": "chi", "ces": "cze",
    "nld": "dut", "fra": "fre", "kat": "geo", "deu": "ger", "ell": "gre", "isl": "ice",
    "mkd": "mac", "mri": "mao", "msa": "may", "fas": "per", "ron": "rum", "slk": "slo",
    "bod": "tib", "cym": "wel",
}  # fmt: skip
"""ISO 639-2/T to 639-2/B, where the two differ."""
_AS_TERMINOLOGICAL = ("fra", "ron", "ces", "slk")
QUICKTIME = {
    **{code: other for code, other in BIBLIOGRAPHIC.items() if code not in _AS_TERMINOLOGICAL},
    "swe": "sve", "hrv": "hr ", "fao": "fo ", "pan": "pa ", "srp": "sr ",
}  # fmt: skip
"""FFmpeg's names of QuickTime's languages (`mov_mdhd_language_map` in `libavformat/isom.c`)."""
_ISO_639_1 = """
    aa:aar ab:abk ae:ave af:afr ak:aka am:amh an:arg ar:ara as:asm av:ava ay:aym az:aze ba:bak
    be:bel bg:bul bh:bih bi:bis bm:bam bn:ben bo:bod br:bre bs:bos ca:cat ce:che ch:cha co:cos
    cr:cre cs:ces cu:chu cv:chv cy:cym da:dan de:deu dv:div dz:dzo ee:ewe el:ell en:eng eo:epo
    es:spa et:est eu:eus fa:fas ff:ful fi:fin fj:fij fo:fao fr:fra fy:fry ga:gle gd:gla gl:glg
    gn:grn gu:guj gv:glv ha:hau he:heb hi:hin ho:hmo hr:hrv ht:hat hu:hun hy:hye hz:her ia:ina
    id:ind ie:ile ig:ibo ii:iii ik:ipk io:ido is:isl it:ita iu:iku ja:jpn jv:jav ka:kat kg:kon
    ki:kik kj:kua kk:kaz kl:kal km:khm kn:kan ko:kor kr:kau ks:kas ku:kur kv:kom kw:cor ky:kir
    la:lat lb:ltz lg:lug li:lim ln:lin lo:lao lt:lit lu:lub lv:lav mg:mlg mh:mah mi:mri mk:mkd
    ml:mal mn:mon mr:mar ms:msa mt:mlt my:mya na:nau nb:nob nd:nde ne:nep ng:ndo nl:nld nn:nno
    no:nor nr:nbl nv:nav ny:nya oc:oci oj:oji om:orm or:ori os:oss pa:pan pi:pli pl:pol ps:pus
    pt:por qu:que rm:roh rn:run ro:ron ru:rus rw:kin sa:san sc:srd sd:snd se:sme sg:sag si:sin
    sk:slk sl:slv sm:smo sn:sna so:som sq:sqi sr:srp ss:ssw st:sot su:sun sv:swe sw:swa ta:tam
    te:tel tg:tgk th:tha ti:tir tk:tuk tl:tgl tn:tsn to:ton tr:tur ts:tso tt:tat tw:twi ty:tah
    ug:uig uk:ukr ur:urd uz:uzb ve:ven vi:vie vo:vol wa:wln wo:wol xh:xho yi:yid yo:yor za:zha
    zh:zho zu:zul
"""
_TWO_LETTERS = dict(pair.split(":") for pair in _ISO_639_1.split())
_TERMINOLOGICAL = {
    other.strip(): code for code, other in (*BIBLIOGRAPHIC.items(), *QUICKTIME.items())
}
_NO_LANGUAGE = ("und", "zxx", "mul", "mis")


def language_code(stated: str) -> tuple[str, str]:
    """Return the ISO 639-2/T code of a language, and what its tag adds, such as a region.

    Args:
        stated: An ISO 639 code or a BCP 47 tag in any case.

    Returns:
        ("por", "br") for "pt-BR"; two empty strings where no language is stated. What is no code
        is returned as it is, in lower case.
    """
    language, _, variety = stated.strip().lower().replace("_", "-").partition("-")
    language = _TWO_LETTERS.get(language, language)
    language = _TERMINOLOGICAL.get(language, language)
    return ("", "") if language in _NO_LANGUAGE else (language, variety)
