"""YODAS 2: how many shards each language folder has, as meta.py of the Hugging Face dataset espnet/yodas2 lists them."""

FULL = (  # 500 shards
    "de100 de101 en000 en001 en002 en003 en004 en005 en006 en100 en101 en102 en103 en104 en105 en106 en107 en108 en109 "
    "en110 en111 en112 en113 en114 en115 en116 en117 en118 en119 en120 en121 en122 en123 en124 en125 en126 en127 en128 "
    "es100 es101 es102 es103 es104 es105 es106 es107 fr100 fr101 fr102 id100 it100 ko100 ko101 ko102 pt100 pt101 pt102 "
    "ru000 ru100 ru101 ru102 ru103 ru104 ru105 vi100 "
)
SMALL = (  # 2 shards
    "aa000 ab000 af000 ak000 as000 ay000 ba000 bh000 bi000 bm000 bo000 br000 bs000 co000 cr000 cy000 dz000 ee000 et000 "
    "ff000 fj000 fo000 ga000 gd000 gn000 ho000 ia000 ie000 ig000 ik000 is000 iu000 jv000 kl000 ks000 ku000 la000 lb000 "
    "lg000 ln000 lo000 lv000 mg000 mi000 mk000 mn000 my000 na000 nv000 oc000 om000 ps000 qu000 rm000 rn000 rw000 sa000 "
    "sc000 sd000 sm000 sn000 sq000 st000 su000 tg000 th100 ti000 tk000 tn000 to000 tt000 ug000 ve000 vo000 wo000 xh000 "
    "yi000 yo000 zu000 "
)
OTHERS = (
    "am000:9 ar000:154 az000:4 be000:7 bg000:12 bn000:92 ca000:10 cs000:24 da000:6 de000:369 de102:114 el000:18 en007:437 "
    "en129:62 eo000:4 es000:483 es108:201 eu000:4 fa000:12 fi000:28 fr000:315 fr103:401 fy000:1 gl000:3 gu000:8 ha000:4 "
    "hi000:182 hi100:7 hr000:5 ht000:3 hu000:32 hy000:3 id000:493 id101:419 it000:185 it101:432 iw000:21 ja000:211 "
    "ja100:303 ka000:4 ki000:1 kk000:6 km000:10 kn000:7 ko000:391 ko103:287 ky000:4 lt000:4 ml000:12 mr000:18 ms000:8 "
    "nd000:1 ne000:6 nl000:52 nl100:263 no000:17 or000:3 pa000:5 pl000:140 pt000:202 pt103:382 ro000:18 ru001:287 ru106:439 "
    "sg000:1 sh000:1 si000:8 sk000:6 sl000:4 so000:4 sr000:4 sv000:17 sw000:4 ta000:40 te000:14 th000:113 tr000:155 "
    "tr100:440 ts000:1 uk000:63 uk100:56 ur000:35 uz000:8 vi000:465 vi101:472 zh000:42 "
)
SHARDS = {**dict.fromkeys(FULL.split(), 500), **dict.fromkeys(SMALL.split(), 2)}
SHARDS.update((name, int(count)) for name, count in (entry.split(":") for entry in OTHERS.split()))
