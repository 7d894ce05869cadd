"""Names and FMA identifiers of AAPM TG-263, retyped from its nomenclature worksheet of 15 August 2017.

Mayo et al., Int J Radiat Oncol Biol Phys 100, 1057 (2018), "TG263-Primary Name" and "FMAID" of the rows of thorax and
abdomen. The role is what the description of the row says. FMA 7195 and 7203 (lung and kidney of no side) are not in
the worksheet.
"""

import pytest

from brachy.geometry.structures import RoiCode
from brachy.patient.roles import guess_role

ROWS = """
A_Aorta 3734 vessel
A_Aorta_Asc 3736 vessel
A_Celiac 50737 vessel
A_Mesenteric_S 14749 vessel
A_Mesenteric_I 14750 vessel
A_Pulmonary 66326 vessel
A_LAD - vessel
V_Portal 66645 vessel
V_Venacava_I 10951 vessel
V_Venacava_S 4720 vessel
V_Azygos 4838 vessel
V_Pulmonary 66643 vessel
GreatVes - vessel
BileDuct_Common 14667 bile_duct
Gallbladder 7202 gallbladder
Liver 7197 liver
Liver-GTV - liver
Liver-CTV - liver
Spleen 7196 spleen
Pancreas 7198 pancreas
Pancreas_Head 10468 pancreas
Pancreas_Tail 14519 pancreas
Kidney_L 7205 kidney
Kidney_R 7204 kidney
Kidneys 264815 kidney
Kidney_Cortex 15581 kidney
Kidney_Pelvis_L 15579 kidney
Kidney_R-GTV - kidney
Glnd_Adrenal_L 15629 organ
Glnd_Adrenal_R 15630 organ
Stomach 7148 bowel
Stomach_PRVxx - bowel
Duodenum 7206 bowel
Jejunum 7207 bowel
Ileum 7208 bowel
Jejunum_Ileum - bowel
Bowel 7199 bowel
Bowel_Small 7200 bowel
Bowel_Large 7201 bowel
Spc_Bowel_Small - bowel
Cecum 14541 bowel
Appendix 14542 bowel
Colon 14543 bowel
Colon_Ascending 14545 bowel
Colon_Sigmoid 14548 bowel
Colon_Transverse 14546 bowel
Rectum 14544 bowel
Esophagus 7131 bowel
Esophagus_I 9397 bowel
Heart 7088 heart
Atrium_L 7097 heart
Ventricle_R 7098 heart
Pericardium 9869 heart
Lung_L 7310 lung
Lung_R 7309 lung
Lungs 68877 lung
Lung_RUL 7333 lung
Lungs-PTV - lung
SpinalCord 7647 spinal_cord
SpinalCord_PRVxx - spinal_cord
SpinalCord_Thor 71167 spinal_cord
SpinalCanal 9680 spinal_cord
CaudaEquina 52590 spinal_cord
ThecalSac 83720 spinal_cord
BrachialPlex_L 45245 nerve
SacralPlex 5909 nerve
Nrv_Root 5981 nerve
Rib 7574 bone
Rib08_R - bone
VB_L1 - bone
VB_T - bone
VBs 11945 bone
Sacrum 16202 bone
Scapula_L 13396 bone
Clavicle_R 13322 bone
Femur_Head_L 32843 bone
Bone_Pelvic 16580 bone
Bone 30317 bone
Trachea 7394 organ
Bronchus 26660 organ
Diaphragm 13295 organ
Chestwall_R 25558 organ
Mediastinum 9826 organ
Bladder 15900 organ
Prostate 9600 organ
LN 5034 organ
LN_Paraaortic - organ
Musc 30316 muscle
GTV - target
CTV - target
PTV - target
ITV - target
Body - external
External - external
"""
LISTED = [tuple(line.split()) for line in ROWS.strip().splitlines()]


@pytest.mark.parametrize(("name", "fma", "role"), LISTED)
def test_a_name_of_tg263(name, fma, role):
    guess = guess_role(name)
    assert (guess.role, guess.source) == (role, "name")


@pytest.mark.parametrize(("name", "fma", "role"), [row for row in LISTED if row[1] != "-"])
def test_an_fma_identifier_of_tg263(name, fma, role):
    guess = guess_role("ROI", "", None, [RoiCode("FMA", fma, "")])
    assert (guess.role, guess.source) == (role, "code")
