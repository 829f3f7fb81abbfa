// StreamSet: the streaming calls under way on one server, so that they can be ended from outside: all of them when the
// server stops, those that asked for a leader when there is none.
//
// Thread     any, under a lock; calls enter and leave it once each, so nothing hot waits here. A call leaves before
//            its object is used for another one, hence End never meets the wrong call.
using System.Collections.Generic;

namespace Cairn.Net.Rpc;

/// <summary>Streams that may have to be ended.</summary>
internal sealed class StreamSet
{
    private readonly HashSet<RpcCall> _calls = [];
    private RpcCode _closedCode;
    private string _closedMessage = "";
    private bool _closed;

    /// <summary>Streams under way.</summary>
    public int Count
    {
        get
        {
            lock (_calls)
            {
                return _calls.Count;
            }
        }
    }

    /// <summary>Enters a call; ends it at once when the set has been closed.</summary>
    public void Add(RpcCall call)
    {
        lock (_calls)
        {
            _calls.Add(call);
            if (_closed)
            {
                call.End(_closedCode, _closedMessage);
            }
        }
    }

    /// <summary>Takes a call out; after this nobody ends it any more.</summary>
    public void Remove(RpcCall call)
    {
        lock (_calls)
        {
            _ = _calls.Remove(call);
        }
    }

    /// <summary>Ends every stream whose client wants to hear of a missing leader.</summary>
    public void EndLeaderless(RpcCode code, string message)
    {
        lock (_calls)
        {
            foreach (RpcCall call in Copy())
            {
                // A unary call was refused at its start or not at all.
                if (call.RequiresLeader && call.Method.Kind != RpcKind.Unary)
                {
                    call.End(code, message);
                }
            }
        }
    }

    /// <summary>Ends every stream, those that come later included.</summary>
    public void Close(RpcCode code, string message)
    {
        lock (_calls)
        {
            _closed = true;
            _closedCode = code;
            _closedMessage = message;
            foreach (RpcCall call in Copy())
            {
                call.End(code, message);
            }
        }
    }

    // An end may run the call's handler to its end, which then leaves the set.
    private RpcCall[] Copy()
    {
        var copy = new RpcCall[_calls.Count];
        _calls.CopyTo(copy);
        return copy;
    }
}
