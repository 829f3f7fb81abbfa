// WatchRequest: parsed views of etcdserverpb.WatchRequest and what is in it. Pure, allocation-free.
using System;

namespace Cairn.Core.Protocol;

/// <summary>Which member of the oneof a WatchRequest carries.</summary>
public enum WatchRequestKind : byte
{
    /// <summary>None: such a request is ignored.</summary>
    None,

    Create,

    Cancel,

    Progress,
}

/// <summary>etcdserverpb.WatchCreateRequest; spans live as long as the bytes they were parsed from.</summary>
public ref struct WatchCreateRequest
{
    /// <summary>First key; empty stands for one zero byte.</summary>
    public ReadOnlySpan<byte> Key;

    /// <summary>Empty: one key. One zero byte: open end. Else the first key behind the range.</summary>
    public ReadOnlySpan<byte> RangeEnd;

    /// <summary>0 = from now.</summary>
    public long StartRevision;

    public bool ProgressNotify;

    /// <summary>Filter NOPUT.</summary>
    public bool NoPut;

    /// <summary>Filter NODELETE.</summary>
    public bool NoDelete;

    public bool PrevKv;

    /// <summary>0 = the server picks.</summary>
    public long WatchId;

    public bool Fragment;

    internal static bool TryParse(ReadOnlySpan<byte> data, out WatchCreateRequest create)
    {
        create = default;
        var reader = new MessageReader(data);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    create.Key = reader.ReadBytes();
                    break;
                case 2:
                    create.RangeEnd = reader.ReadBytes();
                    break;
                case 3:
                    create.StartRevision = reader.ReadInt64();
                    break;
                case 4:
                    create.ProgressNotify = reader.ReadBool();
                    break;
                case 5 when reader.Wire == Base.WireType.Bytes:
                    var packed = new PackedVarints(reader.ReadBytes());
                    while (packed.TryRead(out ulong value))
                    {
                        create.AddFilter((int)value);
                    }

                    if (packed.Failed)
                    {
                        reader.Fail();
                    }

                    break;
                case 5:
                    create.AddFilter(reader.ReadInt32());
                    break;
                case 6:
                    create.PrevKv = reader.ReadBool();
                    break;
                case 7:
                    create.WatchId = reader.ReadInt64();
                    break;
                case 8:
                    create.Fragment = reader.ReadBool();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        return !reader.Failed;
    }

    private void AddFilter(int filter)
    {
        NoPut |= filter == 0;
        NoDelete |= filter == 1;
    }
}

/// <summary>A WatchRequest; of several members of the oneof the last one on the wire counts.</summary>
public ref struct WatchRequest
{
    public WatchRequestKind Kind;

    /// <summary>Set for a create request.</summary>
    public WatchCreateRequest Create;

    /// <summary>Set for a cancel request.</summary>
    public long CancelId;

    /// <summary>Reads a message; false if etcd 3.6 would refuse the bytes.</summary>
    public static bool TryParse(ReadOnlySpan<byte> data, out WatchRequest request)
    {
        request = default;
        var reader = new MessageReader(data);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    request.Kind = WatchRequestKind.Create;
                    if (!WatchCreateRequest.TryParse(reader.ReadBytes(), out request.Create))
                    {
                        reader.Fail();
                    }

                    break;
                case 2:
                    request.Kind = WatchRequestKind.Cancel;
                    request.CancelId = 0;
                    var inner = new MessageReader(reader.ReadBytes());
                    while (inner.NextField())
                    {
                        if (inner.Field == 1)
                        {
                            request.CancelId = inner.ReadInt64();
                        }
                        else
                        {
                            inner.Skip();
                        }
                    }

                    if (inner.Failed)
                    {
                        reader.Fail();
                    }

                    break;
                case 3:
                    request.Kind = WatchRequestKind.Progress;
                    if (!IsMessage(reader.ReadBytes()))
                    {
                        reader.Fail();
                    }

                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        return !reader.Failed;
    }

    private static bool IsMessage(ReadOnlySpan<byte> data)
    {
        var reader = new MessageReader(data);
        while (reader.NextField())
        {
            reader.Skip();
        }

        return !reader.Failed;
    }
}
