"""The clinics that `fairlane dev` has without a clinics file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

SAMPLES: Final[Mapping[str, str]] = {
    "sample-clinic": "คลินิกตัวอย่าง",
    "sample-skin": "ผิวดีคลินิก",
    "sample-small": "คลินิกงบน้อย",
}
"""Names by org_id."""

_HOURS = {"mon-fri": "10:00-20:00", "sat": "10:00-18:00", "sun": "closed"}
_DENTAL = [
    {"item": "ขูดหินปูน", "baht": 900},
    {"item": "อุดฟัน", "baht": [800, 1500]},
    {"item": "ฟอกสีฟัน", "baht": 4500},
    {"item": "จัดฟัน", "baht": [39000, 65000]},
]

SAMPLE_SETTINGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "sample-clinic": {
        "persona": "คลินิกทันตกรรม ตอบอย่างเป็นกันเอง สุภาพ และสั้น · จัดฟันผ่อนได้ 10 เดือน",
        "prices": _DENTAL,
        "answers": [{"q": "มีที่จอดรถไหม", "a": "มีค่ะ หน้าคลินิก 10 คัน"}],
        "hours": _HOURS,
        "handoff": {"keywords": ["เจ้าหน้าที่"], "hours": 12},
        "budget": {"daily_budget_baht": 300},
    },
    "sample-skin": {
        "persona": "คลินิกผิวหนัง ตอบอย่างสุภาพและสั้น",
        "prices": [{"item": "เลเซอร์หน้าใส", "baht": 2500}, {"item": "ทรีตเมนต์", "baht": 1200}],
        "answers": [{"q": "ต้องพักหน้ากี่วัน", "a": "ส่วนใหญ่ 1-3 วันค่ะ คุณหมอจะแนะนำอีกครั้ง"}],
        "hours": {"mon-sun": "11:00-20:00"},
        "budget": {"daily_budget_baht": 300},
    },
    # Room for a few answers, then for cheaper ones, then for none.
    "sample-small": {
        "persona": "คลินิกทันตกรรม ตอบอย่างสุภาพและสั้น",
        "prices": _DENTAL,
        "budget": {"daily_budget_baht": 1, "fallback_model": "gpt-6-luna"},
    },
}
"""What stands in the clinics file, by org_id."""
