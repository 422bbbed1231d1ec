"""The SCP-ECG statements that PTB-XL annotates with, as the table `scp_statements.csv`.

Codes, kinds and diagnostic classes are those of PTB-XL 1.0.3 (Wagner et al. 2020, Scientific Data
7:154, https://doi.org/10.1038/s41597-020-0495-6). The cross-references to other code systems (AHA,
aECG, CDISC, DICOM) are left empty: the columns are there, nothing in this project reads them.
"""

from __future__ import annotations

import pandas as pd

# Statement category -> (code, kinds, diagnostic class:subclass, description); the kinds are the
# first letters of diagnostic, form and rhythm.
STATEMENTS: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "other ST-T descriptive statements": (
        ("NDT", "df", "STTC:STTC", "non-diagnostic T abnormalities"),
        ("DIG", "df", "STTC:STTC", "digitalis-effect"),
        ("LNGQT", "df", "STTC:STTC", "long QT-interval"),
        ("ANEUR", "d", "STTC:STTC", "ST-T changes compatible with ventricular aneurysm"),
        ("LOWT", "f", "", "low amplitude T-waves"),
        ("INVT", "f", "", "inverted T-waves"),
    ),
    "Basic roots for coding ST-T changes and abnormalities": (
        ("NST_", "df", "STTC:NST_", "non-specific ST changes"),
        ("ISC_", "d", "STTC:ISC_", "non-specific ischemic"),
        ("STD_", "f", "", "non-specific ST depression"),
        ("NT_", "f", "", "non-specific T-wave changes"),
        ("TAB_", "f", "", "T-wave abnormality"),
        ("STE_", "f", "", "non-specific ST elevation"),
    ),
    "Normal/abnormal": (
        ("NORM", "d", "NORM:NORM", "normal ECG"),
        ("ABQRS", "f", "", "abnormal QRS"),
    ),
    "Myocardial Infarction": (
        ("IMI", "d", "MI:IMI", "inferior myocardial infarction"),
        ("ASMI", "d", "MI:AMI", "anteroseptal myocardial infarction"),
        ("ILMI", "d", "MI:IMI", "inferolateral myocardial infarction"),
        ("AMI", "d", "MI:AMI", "anterior myocardial infarction"),
        ("ALMI", "d", "MI:AMI", "anterolateral myocardial infarction"),
        ("LMI", "d", "MI:LMI", "lateral myocardial infarction"),
        ("IPLMI", "d", "MI:IMI", "inferoposterolateral myocardial infarction"),
        ("IPMI", "d", "MI:IMI", "inferoposterior myocardial infarction"),
        ("PMI", "d", "MI:PMI", "posterior myocardial infarction"),
    ),
    "Ventricular Hypertrophy": (
        ("LVH", "d", "HYP:LVH", "left ventricular hypertrophy"),
        ("RVH", "d", "HYP:RVH", "right ventricular hypertrophy"),
        ("SEHYP", "d", "HYP:SEHYP", "septal hypertrophy"),
        ("VCLVH", "f", "", "voltage criteria (QRS) for left ventricular hypertrophy"),
    ),
    "Intraventricular and intra-atrial Conduction disturbances": (
        ("LAFB", "d", "CD:LAFB/LPFB", "left anterior fascicular block"),
        ("IRBBB", "d", "CD:IRBBB", "incomplete right bundle branch block"),
        ("IVCD", "d", "CD:IVCD", "non-specific intraventricular conduction disturbance (block)"),
        ("CRBBB", "d", "CD:CRBBB", "complete right bundle branch block"),
        ("CLBBB", "d", "CD:CLBBB", "complete left bundle branch block"),
        ("LPFB", "d", "CD:LAFB/LPFB", "left posterior fascicular block"),
        ("WPW", "d", "CD:WPW", "Wolf-Parkinson-White syndrome"),
        ("ILBBB", "d", "CD:ILBBB", "incomplete left bundle branch block"),
    ),
    "Sinus node dysfunction, atrial and AV-conduction defects": (
        ("1AVB", "d", "CD:_AVB", "first degree AV block"),
        ("3AVB", "d", "CD:_AVB", "third degree AV block"),
        ("2AVB", "d", "CD:_AVB", "second degree AV block"),
    ),
    "ischemic ST-T changes": (
        ("ISCAL", "d", "STTC:ISCA", "ischemic in anterolateral leads"),
        ("ISCIN", "d", "STTC:ISCI", "ischemic in inferior leads"),
        ("ISCIL", "d", "STTC:ISCI", "ischemic in inferolateral leads"),
        ("ISCAS", "d", "STTC:ISCA", "ischemic in anteroseptal leads"),
        ("ISCLA", "d", "STTC:ISCA", "ischemic in lateral leads"),
        ("ISCAN", "d", "STTC:ISCA", "ischemic in anterior leads"),
    ),
    "Atrial statements": (
        ("LAO/LAE", "d", "HYP:LAO/LAE", "left atrial overload/enlargement"),
        ("RAO/RAE", "d", "HYP:RAO/RAE", "right atrial overload/enlargement"),
    ),
    "ischemic ST-T changes compatible with subendocardial injury": (
        ("INJAS", "d", "MI:AMI", "subendocardial injury in anteroseptal leads"),
        ("INJAL", "d", "MI:AMI", "subendocardial injury in anterolateral leads"),
        ("INJIN", "d", "MI:IMI", "subendocardial injury in inferior leads"),
        ("INJLA", "d", "MI:AMI", "subendocardial injury in lateral leads"),
        ("INJIL", "d", "MI:IMI", "subendocardial injury in inferolateral leads"),
    ),
    "physiopathological nature of ST-T changes": (
        ("EL", "d", "STTC:STTC", "electrolytic disturbance or drug (former EDIS)"),
    ),
    "Statements related to ectopic rhythm abnormalities": (
        ("PVC", "f", "", "ventricular premature complex"),
        ("PAC", "f", "", "atrial premature complex"),
        ("PRC(S)", "f", "", "premature complex(es)"),
        ("BIGU", "r", "", "bigeminal pattern (unknown origin, SV or Ventricular)"),
        ("TRIGU", "r", "", "trigeminal pattern (unknown origin, SV or Ventricular)"),
    ),
    "Other QRS morphology descriptive statements": (
        ("QWAVE", "f", "", "Q waves present"),
        ("LVOLT", "f", "", "low QRS voltages in the frontal and horizontal leads"),
        ("HVOLT", "f", "", "high QRS voltage"),
    ),
    "Statements related to impulse formation (abnormalities)": (
        ("LPR", "f", "", "prolonged PR interval"),
        ("SR", "r", "", "sinus rhythm"),
        ("AFIB", "r", "", "atrial fibrillation"),
        ("STACH", "r", "", "sinus tachycardia"),
        ("SARRH", "r", "", "sinus arrhythmia"),
        ("SBRAD", "r", "", "sinus bradycardia"),
        ("SVARR", "r", "", "supraventricular arrhythmia"),
        ("AFLT", "r", "", "atrial flutter"),
        ("SVTAC", "r", "", "supraventricular tachycardia"),
        ("PSVT", "r", "", "paroxysmal supraventricular tachycardia"),
    ),
    "Pacemaker types and pacemaker function": (
        ("PACE", "r", "", "normal functioning artificial pacemaker"),
    ),
}

CROSS_REFERENCES = ("AHA code", "aECG REFID", "CDISC Code", "DICOM Code")


def statement_table() -> pd.DataFrame:
    """The statements in the columns of PTB-XL's `scp_statements.csv`, one row a code."""
    rows: dict[str, dict[str, object]] = {}
    for category, statements in STATEMENTS.items():
        for code, kinds, diagnosis, description in statements:
            superclass, _, subclass = diagnosis.partition(":")
            rows[code] = {
                "description": description,
                "diagnostic": 1.0 if "d" in kinds else None,
                "form": 1.0 if "f" in kinds else None,
                "rhythm": 1.0 if "r" in kinds else None,
                "diagnostic_class": superclass or None,
                "diagnostic_subclass": subclass or None,
                "Statement Category": category,
                "SCP-ECG Statement Description": description,
                **dict.fromkeys(CROSS_REFERENCES),
            }
    return pd.DataFrame.from_dict(rows, orient="index")
