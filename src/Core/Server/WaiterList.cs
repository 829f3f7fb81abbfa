// WaiterList: slots that wait for a number to be reached (durable index, finished compaction). Store thread.
using Cairn.Core.Protocol;

namespace Cairn.Core.Server;

/// <summary>A short list of waiting slots; each holds a pipeline reference until released.</summary>
internal sealed class WaiterList
{
    private Waiter[] _waiters = new Waiter[16];

    internal int Count { get; private set; }

    internal void Add(RequestSlot slot, ulong target)
    {
        if (Count == _waiters.Length)
        {
            System.Array.Resize(ref _waiters, Count * 2);
        }

        _waiters[Count++] = new Waiter { Slot = slot, Target = target };
    }

    /// <summary>Completes those whose target is at or below what was reached.</summary>
    internal bool Release(ulong reached)
    {
        bool any = false;
        for (int i = Count - 1; i >= 0; i--)
        {
            if (_waiters[i].Target <= reached)
            {
                _ = _waiters[i].Slot.TryComplete(ErrorCode.None);
                Remove(i);
                any = true;
            }
        }

        return any;
    }

    /// <summary>Ends all waits with an error.</summary>
    internal void Fail(ErrorCode outcome)
    {
        for (int i = Count - 1; i >= 0; i--)
        {
            _ = _waiters[i].Slot.TryComplete(outcome);
            Remove(i);
        }
    }

    private void Remove(int index)
    {
        RequestSlot slot = _waiters[index].Slot;
        _waiters[index] = _waiters[--Count];
        _waiters[Count] = default;
        slot.DropReference();
    }

    private struct Waiter
    {
        public RequestSlot Slot;
        public ulong Target;
    }
}
