from __future__ import annotations
import asyncio
from functions.adapters.redis_store import RedisStore, ShardBatch, Appended, Seen
from functions.adapters.redis_shard import ShardStore, Change, Committed, Superseded
from functions.core.events import Event
from functions.core.packing import pack_events, unpack_events
from functions.core.settings import Settings

def test_append_commit(settings: Settings) -> None:
    async def go() -> None:
        s = RedisStore(settings)
        ev=[Event(i,"u","flyer_open","f",None) for i in range(5)]
        d=[bytes([i])*12 for i in range(5)]
        r=await s.append([ShardBatch(0,pack_events(ev),5,d)],7)
        assert isinstance(r[0],Appended) and (r[0].pending_before, r[0].pending_after)==(0,5)
        r=await s.append([ShardBatch(0,pack_events(ev),5,d)],8)
        assert r==[Seen((0,1,2,3,4))]
        print(await s.ledgers(), await s.averages(), await s.versions(), await s.flush_requested_ms())
        await s.close()
    asyncio.run(go())
    t=ShardStore(settings)
    l=t.ledger(0); log=list(t.log(0,"0-0",l.newest_id or ""))
    assert unpack_events(log[0][1])[0].user_id=="u"
    c=Change(0,0,log[0][0],5,True,{b"u":b"x"},{b"u":b"y"},{b"m":{b"u":b"z"}})
    assert t.commit(c)==Committed(1,1)
    assert t.commit(c)==Superseded("changed")
    l=t.ledger(0); assert l.pending==0 and l.oldest_pending_ms is None
    t.close()
